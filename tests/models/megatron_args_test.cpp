// Reading and writing a run's flags; the shipped examples between them use every flag that matters.
#include "models/megatron_args.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <set>

#include "models/error.h"
#include "models/megatron_flags.h"

namespace steploom {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::filesystem::path> examples() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(STEPLOOM_SOURCE_DIR "/examples/megatron"))
    files.push_back(entry.path());
  return files;
}

void expect_same(const MegatronArgs& a, const MegatronArgs& b, const std::string& where) {
  EXPECT_EQ(a.args, b.args) << where;
  EXPECT_EQ(a.environment, b.environment) << where;
}

TEST(MegatronArgs, ExamplesAreWrittenAgainWithoutLoss) {
  ASSERT_GE(examples().size(), 10U);
  for (const auto& file : examples()) {
    const MegatronArgs args = load_megatron_args(file);
    EXPECT_GE(args.args.size(), 10U) << file;
    expect_same(args, parse_megatron_shell(to_shell(args), "again"), file.string() + " as shell");
    expect_same(args, parse_megatron_yaml(to_yaml(args), "again"), file.string() + " as YAML");
  }
}

TEST(MegatronArgs, ExamplesUseEveryFlagThatMattersAndNoUnknownOne) {
  std::set<std::string> used;
  for (const auto& file : examples()) {
    const MegatronArgs args = load_megatron_args(file);
    EXPECT_THAT(MegatronRun(args).unknown(), testing::IsEmpty()) << file;
    for (const MegatronArg& a : args.args) used.insert(a.name);
  }
  // Megatron-Core 0.20's flags of parallelism, batch, memory, precision, experts and overlap.
  for (const char* flag : {"tensor-model-parallel-size",
                           "pipeline-model-parallel-size",
                           "context-parallel-size",
                           "hierarchical-context-parallel-sizes",
                           "cp-comm-type",
                           "expert-model-parallel-size",
                           "expert-tensor-parallel-size",
                           "sequence-parallel",
                           "num-layers-per-virtual-pipeline-stage",
                           "num-virtual-stages-per-pipeline-rank",
                           "pipeline-model-parallel-layout",
                           "microbatch-group-size-per-virtual-pipeline-stage",
                           "decoder-first-pipeline-num-layers",
                           "decoder-last-pipeline-num-layers",
                           "account-for-embedding-in-pipeline-split",
                           "account-for-loss-in-pipeline-split",
                           "no-overlap-p2p-communication",
                           "overlap-p2p-communication-warmup-flush",
                           "tp-comm-overlap",
                           "use-distributed-optimizer",
                           "overlap-grad-reduce",
                           "overlap-param-gather",
                           "ddp-bucket-size",
                           "ddp-num-buckets",
                           "num-distributed-optimizer-instances",
                           "grad-reduce-in-bf16",
                           "use-megatron-fsdp",
                           "data-parallel-sharding-strategy",
                           "outer-dp-sharding-strategy",
                           "use-torch-fsdp2",
                           "micro-batch-size",
                           "global-batch-size",
                           "rampup-batch-size",
                           "seq-length",
                           "recompute-granularity",
                           "recompute-method",
                           "recompute-num-layers",
                           "recompute-modules",
                           "fine-grained-activation-offloading",
                           "offload-modules",
                           "optimizer-cpu-offload",
                           "overlap-cpu-optimizer-d2h-h2d",
                           "use-precision-aware-optimizer",
                           "main-grads-dtype",
                           "main-params-dtype",
                           "exp-avg-dtype",
                           "exp-avg-sq-dtype",
                           "bf16",
                           "fp16",
                           "fp8-format",
                           "fp8-recipe",
                           "fp8-param-gather",
                           "num-layers",
                           "hidden-size",
                           "ffn-hidden-size",
                           "num-attention-heads",
                           "group-query-attention",
                           "num-query-groups",
                           "kv-channels",
                           "swiglu",
                           "untie-embeddings-and-output-weights",
                           "normalization",
                           "make-vocab-size-divisible-by",
                           "qk-layernorm",
                           "multi-latent-attention",
                           "q-lora-rank",
                           "kv-lora-rank",
                           "qk-head-dim",
                           "qk-pos-emb-head-dim",
                           "v-head-dim",
                           "mtp-num-layers",
                           "num-experts",
                           "moe-layer-freq",
                           "moe-ffn-hidden-size",
                           "moe-shared-expert-intermediate-size",
                           "moe-shared-expert-overlap",
                           "moe-shared-expert-gate",
                           "moe-router-topk",
                           "moe-router-num-groups",
                           "moe-router-group-topk",
                           "moe-router-topk-scaling-factor",
                           "moe-router-score-function",
                           "moe-router-pre-softmax",
                           "moe-router-dtype",
                           "moe-router-enable-expert-bias",
                           "moe-router-bias-update-rate",
                           "moe-router-load-balancing-type",
                           "moe-router-force-load-balancing",
                           "moe-aux-loss-coeff",
                           "moe-z-loss-coeff",
                           "moe-token-dispatcher-type",
                           "moe-flex-dispatcher-backend",
                           "moe-deepep-num-sms",
                           "moe-hybridep-num-sms",
                           "moe-expert-capacity-factor",
                           "moe-pad-expert-input-to-capacity",
                           "moe-token-drop-policy",
                           "moe-grouped-gemm",
                           "moe-permute-fusion",
                           "moe-router-fusion",
                           "moe-latent-size",
                           "cuda-graph-impl",
                           "overlap-moe-expert-parallel-comm",
                           "delay-wgrad-compute",
                           "ep-overlap-early-attn-memory-release",
                           "overlap-dispatch-backward-with-experts-wgrad"})
    EXPECT_TRUE(used.contains(flag)) << flag;
}

TEST(MegatronArgs, FlagsOfAScriptAreThoseAfterItsPythonFile) {
  const MegatronArgs a = parse_megatron_shell(
      "A=\"--num-layers 4\"\ntorchrun --nnodes 2 pretrain_gpt.py $A --bf16 --lr -1e-5\n", "r.sh");
  EXPECT_THAT(a.args, ElementsAre(MegatronArg{"num-layers", {"4"}, 0}, MegatronArg{"bf16", {}, 0},
                                  MegatronArg{"lr", {"-1e-5"}, 0}));
}

TEST(MegatronArgs, YamlValues) {
  const MegatronArgs a = parse_megatron_yaml(
      "ENV_VARS: {A: 1}\nMODEL_ARGS:\n  --x: true\n  --y: false\n  --z: 'true'\n  --w: [1, 2]\n",
      "r");
  EXPECT_THAT(a.args, ElementsAre(MegatronArg{"x", {}, 0}, MegatronArg{"z", {"true"}, 0},
                                  MegatronArg{"w", {"1", "2"}, 0}));
  EXPECT_EQ(a.environment.at(0).second, "1");
}

TEST(MegatronArgs, WrongFilesAreRefusedWithTheirPlace) {
  const auto message = [](auto read) {
    try {
      read();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(message([] { (void)parse_megatron_shell("echo hello", "r.sh"); }),
              testing::AllOf(HasSubstr("r.sh"), HasSubstr("flags")));
  EXPECT_THAT(
      message([] { (void)parse_megatron_yaml("MODEL_ARGS:\n  num-layers: 4\n", "r.yaml"); }),
      testing::AllOf(HasSubstr("r.yaml"), HasSubstr("line 2"), HasSubstr("--")));
  EXPECT_THAT(message([] { (void)parse_megatron_yaml("MODEL_ARGS: [1", "r.yaml"); }),
              HasSubstr("r.yaml"));
  EXPECT_THAT(message([] { (void)parse_megatron_yaml("- 1\n", "r.yaml"); }),
              HasSubstr("MODEL_ARGS"));
  EXPECT_THAT(message([] { (void)load_megatron_args("/nowhere/r.sh"); }),
              HasSubstr("/nowhere/r.sh"));
  EXPECT_THAT(message([] {
                const MegatronArgs a = parse_megatron_shell("--num-layers --bf16", "r.sh");
                MegatronRun run(a);
              }),
              testing::AllOf(HasSubstr("line 1"), HasSubstr("--num-layers with one value")));
}

TEST(MegatronArgs, UnknownFlagsAreListedWithTheNearest) {
  const MegatronArgs a = parse_megatron_shell("--num-layer 4 --frobnicate 1 2 --bf16", "r.sh");
  EXPECT_THAT(MegatronRun(a).unknown(),
              ElementsAre("--num-layer 4 (did you mean --num-layers?)", "--frobnicate 1 2"));
}

}  // namespace
}  // namespace steploom
