#include "models/megatron_rules.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>

#include "models/error.h"
#include "models/stages.h"

namespace steploom {
namespace {

using Run = MegatronRunFacts;

constexpr std::string_view kLayout = "pipeline-model-parallel-layout";
constexpr std::string_view kFirst = "decoder-first-pipeline-num-layers";
constexpr std::string_view kLast = "decoder-last-pipeline-num-layers";
constexpr std::string_view kLayersPerVirtual = "num-layers-per-virtual-pipeline-stage";
constexpr std::string_view kVirtualPerRank = "num-virtual-stages-per-pipeline-rank";
constexpr std::string_view kGroup = "microbatch-group-size-per-virtual-pipeline-stage";
constexpr std::string_view kOverlap = "overlap-moe-expert-parallel-comm";

bool divides(std::int64_t d, std::int64_t n) {
  return d > 0 && n % d == 0;
}

bool any_of(const std::vector<std::string>& list, std::string_view what) {
  return std::find(list.begin(), list.end(), what) != list.end();
}

std::int64_t dp(const Run& r) {
  return std::max<std::int64_t>(1, r.devices / (r.tp() * r.pp() * r.cp()));
}
std::int64_t micro_batches(const Run& r) {
  return r.integer("global-batch-size", 0) / (r.integer("micro-batch-size", 1) * dp(r));
}
bool selective(const Run& r) {
  return r.has("recompute-activations") || r.text("recompute-granularity", "") == "selective";
}
std::vector<std::string> recomputed(const Run& r) {
  return selective(r) ? r.list("recompute-modules") : std::vector<std::string>{};
}
bool splits_by_rule(const Run& r) {
  return r.has("account-for-embedding-in-pipeline-split") ||
         r.has("account-for-loss-in-pipeline-split");
}
std::int64_t counted_layers(const Run& r) {  // with what counts as one
  return r.integer("num-layers", 0) + r.has("account-for-embedding-in-pipeline-split") +
         r.has("account-for-loss-in-pipeline-split");
}
bool is_fsdp(const Run& r) {
  return r.has("use-torch-fsdp2") || r.has("use-megatron-fsdp");
}
bool biases(const Run& r) {
  return !r.has("disable-bias-linear");
}

// E first, L last, each once; layers and modules as many as there are; modules of one stage, behind
// its layers, the last chunk of its rank and not rank 0 unless that is the last stage.
bool layout_holds_the_model(const Run& r) {
  if (!r.has(kLayout)) return true;
  const std::string s = r.stage_letters();
  const auto count = [&s](char c) { return std::count(s.begin(), s.end(), c); };
  if (s.empty() || s.front() != 'E' || s.back() != 'L' || count('E') != 1 || count('L') != 1 ||
      s.find_first_not_of("EtmL|") != s.npos)
    return false;
  if (count('t') != r.integer("num-layers", 0) || count('m') != r.integer("mtp-num-layers", 0))
    return false;
  const std::size_t first = s.find('m');
  if (first == s.npos) return true;
  const std::size_t last = s.rfind('m');
  if (s.rfind('t') > first && s.rfind('t') != s.npos) return false;
  if (std::count(s.begin() + static_cast<std::ptrdiff_t>(first),
                 s.begin() + static_cast<std::ptrdiff_t>(last), '|') > 0)
    return false;
  const auto stage = std::count(s.begin(), s.begin() + static_cast<std::ptrdiff_t>(first), '|');
  const auto stages = count('|') + 1;
  return stage == stages - 1 || (stage / r.pp() == r.vpp() - 1 && stage % r.pp() != 0);
}

constexpr auto kRules = std::to_array<MegatronRule>({
    {"tp·pp·cp divides devices", "arguments.py",
     [](const Run& r) { return divides(r.tp() * r.pp() * r.cp(), r.devices); }},
    {"etp·ep·pp divides devices", "parallel_state.py, initialize_model_parallel",
     [](const Run& r) {
       return !r.has("num-experts") || divides(r.etp() * r.ep() * r.pp(), r.devices);
     }},
    {"mbs·dp divides global batch", "num_microbatches_calculator.py, ConstantNumMicroBatches",
     [](const Run& r) {
       return divides(r.integer("micro-batch-size", 0) * dp(r), r.integer("global-batch-size", 0));
     }},
    // Pipeline.
    {"one way to say virtual stages", "arguments.py",
     [](const Run& r) {
       return r.has(kLayersPerVirtual) + r.has(kVirtualPerRank) + r.has(kLayout) <= 1;
     }},
    {"pp divides the layout's stages", "arguments.py",
     [](const Run& r) {
       const std::string s = r.stage_letters();
       return s.empty() || divides(r.pp(), std::count(s.begin(), s.end(), '|') + 1);
     }},
    {"pp divides layers", "arguments.py",
     [](const Run& r) {
       return r.has(kLayout) || r.has(kFirst) || r.has(kLast) ||
              divides(r.pp(), counted_layers(r));
     }},
    {"virtual stages divide a rank's layers", "arguments.py; transformer_block.py",
     [](const Run& r) {
       if (r.has(kLayout) || r.has(kFirst) || r.has(kLast)) return true;
       const std::int64_t each = r.pp() > 0 ? counted_layers(r) / r.pp() : 0;
       return r.has(kLayersPerVirtual) ? divides(r.integer(kLayersPerVirtual, 0), each)
                                       : divides(r.vpp(), each);
     }},
    {"first and last counts with virtual stages per rank", "arguments.py",
     [](const Run& r) {
       return !r.has(kLayersPerVirtual) || (!r.has(kFirst) && !r.has(kLast));
     }},
    {"one way to split unevenly", "transformer_config.py",
     [](const Run& r) {
       const int ways = r.has(kLayout) + (r.has(kFirst) || r.has(kLast)) + splits_by_rule(r);
       return ways <= 1;
     }},
    {"first and last counts leave an even split", "transformer_config.py",
     [](const Run& r) {
       if (!r.has(kFirst) && !r.has(kLast)) return true;
       const std::int64_t ends = r.has(kFirst) + r.has(kLast);
       const std::int64_t left =
           r.integer("num-layers", 0) - r.integer(kFirst, 0) - r.integer(kLast, 0);
       const std::int64_t ranks = r.pp() - ends;
       return left >= 0 && ranks >= 0 && (left == 0) == (ranks == 0) &&
              (ranks == 0 || divides(ranks * r.vpp(), left));
     }},
    {"the layout holds the model", "pipeline_parallel_layer_layout.py, validate_layer_layout",
     layout_holds_the_model},
    {"vpp needs pp", "arguments.py",
     [](const Run& r) {
       return r.vpp() == 1 || r.pp() > (r.has("no-overlap-p2p-communication") ? 2 : 1);
     }},
    {"micro-batches fill the virtual pipeline",
     "pipeline_parallel/schedules.py, forward_backward_pipelining_with_interleaving",
     [](const Run& r) {
       if (r.vpp() == 1) return true;
       const std::int64_t group = r.integer(kGroup, r.pp()), m = micro_batches(r);
       return group >= r.pp() && group <= m && (m % group == 0 || m % group >= r.pp());
     }},
    // Data parallelism.
    {"overlapped gather needs shards", "arguments.py",
     [](const Run& r) {
       return !r.has("overlap-param-gather") || r.has("use-distributed-optimizer") ||
              r.has("use-megatron-fsdp");
     }},
    {"overlapped gather needs overlapped reduction", "arguments.py",
     [](const Run& r) { return !r.has("overlap-param-gather") || r.has("overlap-grad-reduce"); }},
    {"optimizer instances need shards", "arguments.py",
     [](const Run& r) {
       return r.integer("num-distributed-optimizer-instances", 1) == 1 ||
              r.has("use-distributed-optimizer") || r.has("use-megatron-fsdp");
     }},
    {"FSDP2 alone", "arguments.py",
     [](const Run& r) {
       return !r.has("use-torch-fsdp2") ||
              (r.pp() == 1 && r.ep() == 1 && !r.has("use-distributed-optimizer") &&
               !r.has("fp16") && r.has("no-gradient-accumulation-fusion"));
     }},
    {"FSDP2 with untied embeddings", "arguments.py",
     [](const Run& r) {
       return !r.has("use-torch-fsdp2") || r.has("untie-embeddings-and-output-weights");
     }},
    {"FSDP's checkpoints", "arguments.py",
     [](const Run& r) {
       const std::string format = r.text("ckpt-format", "torch_dist");
       if (r.has("use-megatron-fsdp")) return format == "fsdp_dtensor";
       return format != "fsdp_dtensor" &&
              (!r.has("use-torch-fsdp2") || format == "torch_dist" || format == "torch_dcp");
     }},
    {"FSDP needs several connections", "arguments.py",
     [](const Run& r) {
       return !is_fsdp(r) || r.environment("CUDA_DEVICE_MAX_CONNECTIONS") != "1";
     }},
    // Not asked for from Blackwell on; harmless there.
    {"tp and cp need one connection", "arguments.py",
     [](const Run& r) {
       if ((r.tp() == 1 && r.cp() == 1) || is_fsdp(r) || r.has(kOverlap)) return true;
       return r.environment("CUDA_DEVICE_MAX_CONNECTIONS") == "1";
     }},
    // Batch, precision.
    {"bf16 or fp16", "arguments.py",
     [](const Run& r) { return !r.has("bf16") || !r.has("fp16"); }},
    {"positions cover the sequence", "arguments.py",
     [](const Run& r) {
       return r.integer("max-position-embeddings", 0) >= r.integer("seq-length", 0);
     }},
    {"2·cp divides sequence", "arguments.py",
     [](const Run& r) {
       return r.cp() == 1 || divides(2 * r.cp(), r.integer("seq-length", 0));
     }},
    {"hierarchical cp multiplies to cp", "arguments.py",
     [](const Run& r) {
       std::int64_t product = 1;
       const auto sizes = r.list("hierarchical-context-parallel-sizes");
       for (const std::string& size : sizes) product *= std::atoll(size.c_str());
       return sizes.empty() ? !any_of(r.list("cp-comm-type"), "a2a+p2p") : product == r.cp();
     }},
    {"offloaded optimizer is precision-aware", "arguments.py",
     [](const Run& r) {
       return !r.has("optimizer-cpu-offload") || r.has("use-precision-aware-optimizer");
     }},
    // Tensor parallelism.
    {"tp divides heads", "transformer_config.py",
     [](const Run& r) { return divides(r.tp(), r.integer("num-attention-heads", 0)); }},
    {"tp and query groups divide one another", "transformer_config.py",
     [](const Run& r) {
       const std::int64_t groups = r.has("group-query-attention")
                                       ? r.integer("num-query-groups", 1)
                                       : r.integer("num-attention-heads", 1);
       return divides(r.tp(), groups) || divides(groups, r.tp());
     }},
    {"sequence parallelism needs tp", "model_parallel_config.py",
     [](const Run& r) { return !r.has("sequence-parallel") || r.tp() > 1; }},
    {"tp overlap needs sequence parallelism", "arguments.py",
     [](const Run& r) { return !r.has("tp-comm-overlap") || r.has("sequence-parallel"); }},
    // Recomputation.
    {"full recomputation says its method and layers", "transformer_config.py",
     [](const Run& r) {
       if (r.text("recompute-granularity", "") != "full") return true;
       const std::string method = r.text("recompute-method", "");
       return (method == "uniform" || method == "block") && r.integer("recompute-num-layers", 0) > 0;
     }},
    {"selective recomputation has no method", "transformer_config.py",
     [](const Run& r) {
       return !selective(r) || (!r.has("recompute-method") && !r.has("recompute-num-layers"));
     }},
    {"recomputed modules are known", "transformer_config.py",
     [](const Run& r) {
       static constexpr std::array<std::string_view, 7> kModules{
           "core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe", "shared_experts"};
       const auto modules = recomputed(r);
       return std::all_of(modules.begin(), modules.end(), [](const std::string& m) {
         return std::find(kModules.begin(), kModules.end(), m) != kModules.end();
       });
     }},
    {"moe_act needs grouped products", "transformer_config.py",
     [](const Run& r) {
       return !any_of(recomputed(r), "moe_act") || r.has("moe-grouped-gemm");
     }},
    {"mla_up_proj needs latent attention", "transformer_config.py",
     [](const Run& r) {
       return !any_of(recomputed(r), "mla_up_proj") || r.has("multi-latent-attention");
     }},
    {"a recomputed shared expert is not overlapped", "transformer_config.py",
     [](const Run& r) {
       return !any_of(recomputed(r), "shared_experts") || !r.has("moe-shared-expert-overlap") ||
              !r.has("moe-shared-expert-intermediate-size");
     }},
    {"delayed fp8 scaling recomputes no norm or activation", "transformer_config.py",
     [](const Run& r) {
       return !r.has("fp8-format") || r.text("fp8-recipe", "delayed") != "delayed" ||
              (!any_of(recomputed(r), "moe_act") && !any_of(recomputed(r), "layernorm"));
     }},
    // Experts.
    {"ep needs experts", "arguments.py",
     [](const Run& r) { return r.ep() == 1 || r.has("num-experts"); }},
    {"expert width needs experts", "transformer_config.py",
     [](const Run& r) { return !r.has("moe-ffn-hidden-size") || r.has("num-experts"); }},
    {"ep divides experts", "arguments.py",
     [](const Run& r) {
       return !r.has("num-experts") || divides(r.ep(), r.integer("num-experts", 0));
     }},
    {"ep without fp16", "arguments.py",
     [](const Run& r) { return r.ep() == 1 || !r.has("fp16"); }},
    {"experts with tp need sequence parallelism", "transformer/moe/moe_layer.py, MoELayer.forward",
     [](const Run& r) {
       return !r.has("num-experts") || r.tp() == 1 || r.has("sequence-parallel");
     }},
    {"grouped products need bf16", "arguments.py",
     [](const Run& r) { return !r.has("moe-grouped-gemm") || r.has("bf16"); }},
    {"expert biases need etp 1", "transformer_config.py",
     [](const Run& r) { return !r.has("num-experts") || !biases(r) || r.etp() == 1; }},
    {"correction bias needs sigmoid scores", "transformer_config.py",
     [](const Run& r) {
       const std::string score = r.text("moe-router-score-function", "softmax");
       return !r.has("moe-router-enable-expert-bias") || score != "softmax";
     }},
    {"one expert a token needs softmax before", "transformer_config.py",
     [](const Run& r) {
       return !r.has("num-experts") || r.integer("moe-router-topk", 2) != 1 ||
              r.text("moe-router-score-function", "softmax") != "softmax" ||
              r.has("moe-router-pre-softmax") ||
              r.text("moe-router-load-balancing-type", "aux_loss") == "sinkhorn";
     }},
    {"routing groups divide experts", "transformer_config.py",
     [](const Run& r) {
       if (!r.has("moe-router-group-topk")) return true;
       const std::int64_t groups = r.integer("moe-router-num-groups", 0);
       return divides(groups, r.integer("num-experts", 0)) &&
              r.integer("moe-router-group-topk", 0) <= groups;
     }},
    {"shared expert is positive", "transformer_config.py",
     [](const Run& r) {
       return !r.has("moe-shared-expert-intermediate-size") ||
              r.integer("moe-shared-expert-intermediate-size", 0) > 0;
     }},
    {"shared expert overlap needs a dispatcher", "transformer_config.py",
     [](const Run& r) {
       return !r.has("moe-shared-expert-overlap") ||
              r.text("moe-token-dispatcher-type", "allgather") != "allgather";
     }},
    {"prediction needs rotary positions", "arguments.py",
     [](const Run& r) {
       const std::string type = r.has("use-rotary-position-embeddings")
                                    ? "rope"
                                    : r.text("position-embedding-type", "learned_absolute");
       return r.integer("mtp-num-layers", 0) == 0 || type == "rope" || type == "none";
     }},
    // Overlap of the experts' all-to-alls.
    {"expert overlap needs ep", "transformer_config.py",
     [](const Run& r) { return !r.has(kOverlap) || r.ep() > 1; }},
    {"expert overlap needs a dispatcher", "transformer_config.py",
     [](const Run& r) {
       return !r.has(kOverlap) || r.text("moe-token-dispatcher-type", "allgather") != "allgather";
     }},
    {"expert overlap with pp needs vpp", "transformer_config.py",
     [](const Run& r) { return !r.has(kOverlap) || r.pp() == 1 || r.vpp() > 1; }},
    {"expert overlap without full recomputation", "transformer_config.py",
     [](const Run& r) {
       return !r.has(kOverlap) ||
              (r.text("recompute-granularity", "") != "full" && !r.has("recompute-method") &&
               !r.has("recompute-num-layers") && !any_of(recomputed(r), "moe"));
     }},
    {"expert overlap needs 16 bits", "transformer_config.py",
     [](const Run& r) { return !r.has(kOverlap) || r.has("bf16") || r.has("fp16"); }},
    {"expert overlap without that of the shared expert", "transformer_config.py",
     [](const Run& r) { return !r.has(kOverlap) || !r.has("moe-shared-expert-overlap"); }},
    {"expert overlap with one prediction module", "transformer_config.py",
     [](const Run& r) { return !r.has(kOverlap) || r.integer("mtp-num-layers", 0) <= 1; }},
    {"delayed weight gradients need expert overlap", "transformer_config.py",
     [](const Run& r) { return !r.has("delay-wgrad-compute") || r.has(kOverlap); }},
});

}  // namespace

const MegatronArg* MegatronRunFacts::find(std::string_view flag) const {
  const auto at = std::find_if(args.args.rbegin(), args.args.rend(),
                               [&](const MegatronArg& a) { return a.name == flag; });
  return at == args.args.rend() ? nullptr : &*at;
}

std::int64_t MegatronRunFacts::integer(std::string_view flag, std::int64_t otherwise) const {
  const MegatronArg* a = find(flag);
  if (!a || a->values.size() != 1) return otherwise;
  const std::string& text = a->values[0];
  std::int64_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  return fault == std::errc{} && end == text.data() + text.size() ? value : otherwise;
}

std::string MegatronRunFacts::text(std::string_view flag, std::string_view otherwise) const {
  const MegatronArg* a = find(flag);
  return std::string(a && !a->values.empty() ? std::string_view(a->values[0]) : otherwise);
}

std::vector<std::string> MegatronRunFacts::list(std::string_view flag) const {
  const MegatronArg* a = find(flag);
  return a ? a->values : std::vector<std::string>{};
}

std::string MegatronRunFacts::environment(std::string_view name) const {
  for (const auto& [key, value] : args.environment)
    if (key == name) return value;
  return "";
}

std::string MegatronRunFacts::stage_letters() const {
  const MegatronArg* a = find(kLayout);
  return a && !a->values.empty() ? stage_letters_of(a->values[0]) : "";
}

std::int64_t MegatronRunFacts::vpp() const {
  if (has(kVirtualPerRank)) return integer(kVirtualPerRank, 1);
  const std::int64_t ranks = std::max<std::int64_t>(1, pp());
  if (const std::string s = stage_letters(); !s.empty())
    return std::max<std::int64_t>(1, (std::count(s.begin(), s.end(), '|') + 1) / ranks);
  const std::int64_t each = integer(kLayersPerVirtual, 0);
  return each > 0 ? std::max<std::int64_t>(1, counted_layers(*this) / ranks / each) : 1;
}

std::span<const MegatronRule> megatron_rules() {
  return kRules;
}

const MegatronRule* broken_megatron_rule(const MegatronRunFacts& facts) {
  for (const MegatronRule& rule : kRules)
    if (!rule.kept(facts)) return &rule;
  return nullptr;
}

}  // namespace steploom
