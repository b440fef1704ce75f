// Each of Megatron-Core's argument rules, on a run that keeps all of them and on one that breaks
// it.
#include "models/megatron_rules.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

namespace steploom {
namespace {

constexpr int kDevices = 16;

// 16 devices, dp 16 unless a case says otherwise: it keeps every rule.
constexpr const char* kRun =
    "export CUDA_DEVICE_MAX_CONNECTIONS=1\n"
    "--num-layers 8 --hidden-size 512 --num-attention-heads 8 --seq-length 1024 "
    "--max-position-embeddings 1024 --micro-batch-size 1 --global-batch-size 32 --bf16 "
    "--position-embedding-type rope --disable-bias-linear --num-experts 8 --moe-router-topk 2 "
    "--moe-token-dispatcher-type alltoall --moe-grouped-gemm ";

struct Case {
  const char* rule;
  const char* breaks;  // added to the run; the last of equal flags counts
  const char* keeps;   // likewise, next to it
};

constexpr Case kCases[] = {
    {"tp·pp·cp divides devices", "--context-parallel-size 3", "--context-parallel-size 4"},
    {"etp·ep·pp divides devices", "--expert-tensor-parallel-size 3",
     "--expert-tensor-parallel-size 4"},
    {"mbs·dp divides global batch", "--global-batch-size 24", "--global-batch-size 48"},
    {"one way to say virtual stages",
     "--pipeline-model-parallel-size 2 --num-virtual-stages-per-pipeline-rank 2 "
     "--num-layers-per-virtual-pipeline-stage 2",
     "--pipeline-model-parallel-size 2 --num-virtual-stages-per-pipeline-rank 2"},
    {"pp divides the layout's stages",
     "--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout 'Et*4|tt|ttL'",
     "--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout 'Et*4|t*4L'"},
    {"pp divides layers", "--num-layers 9 --pipeline-model-parallel-size 2",
     "--num-layers 9 --pipeline-model-parallel-size 2 --account-for-loss-in-pipeline-split"},
    {"virtual stages divide a rank's layers",
     "--pipeline-model-parallel-size 2 --num-layers-per-virtual-pipeline-stage 3",
     "--pipeline-model-parallel-size 2 --num-layers-per-virtual-pipeline-stage 2"},
    {"first and last counts with virtual stages per rank",
     "--pipeline-model-parallel-size 4 --decoder-first-pipeline-num-layers 2 "
     "--num-layers-per-virtual-pipeline-stage 1",
     "--pipeline-model-parallel-size 4 --decoder-first-pipeline-num-layers 2 "
     "--num-virtual-stages-per-pipeline-rank 2"},
    {"one way to split unevenly",
     "--pipeline-model-parallel-size 2 --decoder-first-pipeline-num-layers 3 "
     "--account-for-loss-in-pipeline-split",
     "--pipeline-model-parallel-size 2 --decoder-first-pipeline-num-layers 3"},
    {"first and last counts leave an even split",
     "--pipeline-model-parallel-size 4 --decoder-first-pipeline-num-layers 3",
     "--pipeline-model-parallel-size 4 --decoder-first-pipeline-num-layers 2"},
    {"the layout holds the model",
     "--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout 'Et*4|t*3L'",
     "--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout 'Et*8|mL' --mtp-num-layers "
     "1"},
    {"the layout holds the model",
     "--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout 'Et*4m|t*4L' "
     "--mtp-num-layers 1",
     "--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout 'Et*4|t*4mL' "
     "--mtp-num-layers 1"},
    {"vpp needs pp", "--num-virtual-stages-per-pipeline-rank 2",
     "--pipeline-model-parallel-size 2 --num-virtual-stages-per-pipeline-rank 2"},
    {"vpp needs pp",
     "--pipeline-model-parallel-size 2 --num-virtual-stages-per-pipeline-rank 2 "
     "--no-overlap-p2p-communication",
     "--pipeline-model-parallel-size 4 --num-virtual-stages-per-pipeline-rank 2 "
     "--no-overlap-p2p-communication"},
    {"micro-batches fill the virtual pipeline",
     "--pipeline-model-parallel-size 4 --num-virtual-stages-per-pipeline-rank 2 "
     "--global-batch-size 20",
     "--pipeline-model-parallel-size 4 --num-virtual-stages-per-pipeline-rank 2"},
    {"overlapped gather needs shards", "--overlap-grad-reduce --overlap-param-gather",
     "--overlap-grad-reduce --overlap-param-gather --use-distributed-optimizer"},
    {"overlapped gather needs overlapped reduction",
     "--use-distributed-optimizer --overlap-param-gather",
     "--use-distributed-optimizer --overlap-grad-reduce"},
    {"optimizer instances need shards", "--num-distributed-optimizer-instances 2",
     "--num-distributed-optimizer-instances 2 --use-distributed-optimizer"},
    {"FSDP2 alone",
     "--use-torch-fsdp2 --untie-embeddings-and-output-weights --expert-model-parallel-size 2",
     "--use-megatron-fsdp --ckpt-format fsdp_dtensor --expert-model-parallel-size 2"},
    {"FSDP2 with untied embeddings", "--use-torch-fsdp2 --no-gradient-accumulation-fusion",
     "--use-torch-fsdp2 --no-gradient-accumulation-fusion --untie-embeddings-and-output-weights"},
    {"FSDP's checkpoints", "--use-megatron-fsdp", "--use-megatron-fsdp --ckpt-format fsdp_dtensor"},
    {"FSDP needs several connections", "--use-megatron-fsdp --ckpt-format fsdp_dtensor", ""},
    {"tp and cp need one connection", "--context-parallel-size 2", ""},
    {"bf16 or fp16", "--fp16", ""},
    {"positions cover the sequence", "--seq-length 2048",
     "--seq-length 2048 --max-position-embeddings 2048"},
    {"2·cp divides sequence", "--context-parallel-size 4 --seq-length 1020",
     "--context-parallel-size 4 --seq-length 1016"},
    {"hierarchical cp multiplies to cp",
     "--context-parallel-size 4 --hierarchical-context-parallel-sizes 2 4",
     "--context-parallel-size 4 --hierarchical-context-parallel-sizes 2 2"},
    {"offloaded optimizer is precision-aware", "--optimizer-cpu-offload",
     "--optimizer-cpu-offload --use-precision-aware-optimizer"},
    {"tp divides heads",
     "--tensor-model-parallel-size 16 --sequence-parallel --expert-tensor-parallel-size 1",
     "--tensor-model-parallel-size 8 --sequence-parallel --expert-tensor-parallel-size 1"},
    {"tp and query groups divide one another",
     "--num-attention-heads 12 --group-query-attention --num-query-groups 3 "
     "--tensor-model-parallel-size 4 --sequence-parallel",
     "--num-attention-heads 12 --group-query-attention --num-query-groups 2 "
     "--tensor-model-parallel-size 4 --sequence-parallel"},
    {"sequence parallelism needs tp", "--sequence-parallel",
     "--sequence-parallel --tensor-model-parallel-size 2"},
    {"tp overlap needs sequence parallelism", "--tp-comm-overlap",
     "--tp-comm-overlap --sequence-parallel --tensor-model-parallel-size 2"},
    {"full recomputation says its method and layers", "--recompute-granularity full",
     "--recompute-granularity full --recompute-method block --recompute-num-layers 1"},
    {"selective recomputation has no method",
     "--recompute-granularity selective --recompute-method uniform",
     "--recompute-granularity selective"},
    {"recomputed modules are known",
     "--recompute-granularity selective --recompute-modules core_attn dropout",
     "--recompute-granularity selective --recompute-modules core_attn moe_act"},
    {"moe_act needs grouped products", "", "--recompute-granularity selective"},
    {"mla_up_proj needs latent attention",
     "--recompute-granularity selective --recompute-modules mla_up_proj",
     "--recompute-granularity selective --recompute-modules mla_up_proj --multi-latent-attention"},
    {"a recomputed shared expert is not overlapped",
     "--moe-shared-expert-intermediate-size 512 --moe-shared-expert-overlap "
     "--recompute-granularity selective --recompute-modules shared_experts",
     "--moe-shared-expert-intermediate-size 512 "
     "--recompute-granularity selective --recompute-modules shared_experts"},
    {"delayed fp8 scaling recomputes no norm or activation",
     "--fp8-format hybrid --recompute-granularity selective --recompute-modules layernorm",
     "--fp8-format hybrid --fp8-recipe tensorwise --recompute-granularity selective "
     "--recompute-modules layernorm"},
    {"ep needs experts", "", ""},
    {"expert width needs experts", "", ""},
    {"ep divides experts", "--expert-model-parallel-size 16", "--expert-model-parallel-size 8"},
    {"ep without fp16", "", ""},
    {"experts with tp need sequence parallelism", "--tensor-model-parallel-size 2",
     "--tensor-model-parallel-size 2 --sequence-parallel"},
    {"grouped products need bf16", "", ""},
    {"expert biases need etp 1", "", ""},
    {"correction bias needs sigmoid scores", "--moe-router-enable-expert-bias",
     "--moe-router-enable-expert-bias --moe-router-score-function sigmoid"},
    {"one expert a token needs softmax before", "--moe-router-topk 1",
     "--moe-router-topk 1 --moe-router-pre-softmax"},
    {"routing groups divide experts", "--moe-router-group-topk 2 --moe-router-num-groups 3",
     "--moe-router-group-topk 2 --moe-router-num-groups 4"},
    {"shared expert is positive", "--moe-shared-expert-intermediate-size 0",
     "--moe-shared-expert-intermediate-size 512"},
    {"shared expert overlap needs a dispatcher",
     "--moe-shared-expert-overlap --moe-token-dispatcher-type allgather",
     "--moe-shared-expert-overlap"},
    {"prediction needs rotary positions",
     "--mtp-num-layers 1 --position-embedding-type learned_absolute", "--mtp-num-layers 1"},
    {"expert overlap needs ep", "--overlap-moe-expert-parallel-comm",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8"},
    {"expert overlap needs a dispatcher",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8 "
     "--moe-token-dispatcher-type allgather",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8"},
    {"expert overlap with pp needs vpp",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8 "
     "--pipeline-model-parallel-size 2",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8 "
     "--pipeline-model-parallel-size 2 --num-virtual-stages-per-pipeline-rank 2"},
    {"expert overlap without full recomputation",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8 "
     "--recompute-granularity selective --recompute-modules moe",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8 "
     "--recompute-granularity selective --recompute-modules moe_act"},
    {"expert overlap needs 16 bits", "", ""},
    {"expert overlap without that of the shared expert",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8 "
     "--moe-shared-expert-overlap",
     "--moe-shared-expert-overlap"},
    {"expert overlap with one prediction module",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8 --mtp-num-layers 2",
     "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8 --mtp-num-layers 1"},
    {"delayed weight gradients need expert overlap", "--delay-wgrad-compute",
     "--delay-wgrad-compute --overlap-moe-expert-parallel-comm --expert-model-parallel-size 8"},
};

// Where a rule is broken by what is left out or by the environment.
std::string without(std::string run, const std::string& what) {
  const std::size_t at = run.find(what);
  if (at == run.npos) throw std::logic_error("the run has no " + what);
  return run.erase(at, what.size());
}

std::string broken_run(const Case& c) {
  const std::string_view rule = c.rule;
  const std::string run = kRun;
  const std::string no_experts = without(
      without(without(run, "--num-experts 8 "), "--moe-router-topk 2 "), "--moe-grouped-gemm ");
  const std::string no_grouped = without(run, "--moe-grouped-gemm ");
  if (rule == "tp and cp need one connection")
    return without(run, "export CUDA_DEVICE_MAX_CONNECTIONS=1\n") + c.breaks;
  if (rule == "moe_act needs grouped products")
    return no_grouped + "--recompute-granularity selective --recompute-modules moe_act";
  if (rule == "ep needs experts") return no_experts + "--expert-model-parallel-size 2";
  if (rule == "expert width needs experts") return no_experts + "--moe-ffn-hidden-size 64";
  if (rule == "ep without fp16")
    return without(no_grouped, "--bf16 ") + "--fp16 --expert-model-parallel-size 2";
  if (rule == "grouped products need bf16") return without(run, "--bf16 ") + "--fp16";
  if (rule == "expert biases need etp 1")
    return without(run, "--disable-bias-linear ") + "--expert-tensor-parallel-size 2";
  if (rule == "expert overlap needs 16 bits")
    return without(no_grouped, "--bf16 ") +
           "--overlap-moe-expert-parallel-comm --expert-model-parallel-size 8";
  return run + c.breaks;
}

std::string_view first_broken(const std::string& run) {
  const MegatronArgs args = parse_megatron_shell(run, "run.sh");
  const MegatronRule* rule = broken_megatron_rule({args, kDevices});
  return rule ? rule->name : "none";
}

std::vector<std::string_view> all_broken(const std::string& run) {
  const MegatronArgs args = parse_megatron_shell(run, "run.sh");
  std::vector<std::string_view> names;
  for (const MegatronRule& rule : megatron_rules())
    if (!rule.kept({args, kDevices})) names.push_back(rule.name);
  return names;
}

TEST(MegatronRules, EachIsBrokenByItsCaseAndKeptBesideIt) {
  for (const Case& c : kCases) {
    const std::vector<std::string_view> broken = all_broken(broken_run(c));
    EXPECT_NE(std::find(broken.begin(), broken.end(), c.rule), broken.end()) << c.rule;
    std::string kept = kRun;
    if (std::string_view(c.keeps).find("fsdp") != std::string_view::npos)
      kept = without(kept, "export CUDA_DEVICE_MAX_CONNECTIONS=1\n");
    EXPECT_EQ(first_broken(kept + c.keeps), "none") << c.rule;
  }
}

TEST(MegatronRules, EveryRuleHasACaseAndASource) {
  std::set<std::string_view> cases;
  for (const Case& c : kCases) cases.insert(c.rule);
  for (const MegatronRule& rule : megatron_rules()) {
    EXPECT_TRUE(cases.erase(rule.name) == 1) << rule.name;
    EXPECT_NE(rule.source.find(".py"), rule.source.npos) << rule.name;
  }
  EXPECT_TRUE(cases.empty()) << *cases.begin();
}

}  // namespace
}  // namespace steploom
