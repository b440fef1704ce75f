#include "models/megatron_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>

#include "models/error.h"
#include "models/nearest.h"

namespace steploom {
namespace {

using enum FlagTakes;
using enum FlagRole;

constexpr auto kFlags = std::to_array<MegatronFlag>({
    // Parallelism.
    {"tensor-model-parallel-size", integer, read},
    {"pipeline-model-parallel-size", integer, read},
    {"context-parallel-size", integer, read},
    {"hierarchical-context-parallel-sizes", several, not_modelled},
    {"cp-comm-type", several, read},
    {"expert-model-parallel-size", integer, read},
    {"expert-tensor-parallel-size", integer, read},
    {"sequence-parallel", nothing, read},
    {"num-layers-per-virtual-pipeline-stage", integer, read},
    {"num-virtual-stages-per-pipeline-rank", integer, read},
    {"pipeline-model-parallel-layout", text, read},
    {"microbatch-group-size-per-virtual-pipeline-stage", integer, read},
    {"decoder-first-pipeline-num-layers", integer, read},
    {"decoder-last-pipeline-num-layers", integer, read},
    {"account-for-embedding-in-pipeline-split", nothing, read},
    {"account-for-loss-in-pipeline-split", nothing, read},
    {"no-overlap-p2p-communication", nothing, not_modelled},
    {"overlap-p2p-communication-warmup-flush", nothing, not_modelled},
    {"tp-comm-overlap", nothing, read},
    {"tp-comm-overlap-cfg", text, not_modelled},
    {"disable-tp-comm-overlap-ag", nothing, not_modelled},
    {"disable-tp-comm-overlap-rs", nothing, not_modelled},
    {"disable-tp-comm-bulk-dgrad", nothing, not_modelled},
    {"disable-tp-comm-bulk-wgrad", nothing, not_modelled},
    {"tp-comm-overlap-rs-dgrad", nothing, not_modelled},
    {"disable-tp-comm-split-ag", nothing, no_effect},  // of Transformer Engine before 1.6
    {"disable-tp-comm-split-rs", nothing, no_effect},  // likewise
    {"tp-comm-bootstrap-backend", text, no_effect},
    // Data parallelism.
    {"use-distributed-optimizer", nothing, read},
    {"overlap-grad-reduce", nothing, read},
    {"overlap-param-gather", nothing, read},
    {"ddp-bucket-size", integer, read},
    {"ddp-num-buckets", integer, not_modelled},
    {"num-distributed-optimizer-instances", integer, read},
    {"grad-reduce-in-bf16", nothing, read},
    {"accumulate-allreduce-grads-in-fp32", nothing, no_effect},
    {"use-megatron-fsdp", nothing, read},
    {"data-parallel-sharding-strategy", text, read},
    {"outer-dp-sharding-strategy", text, read},
    {"use-torch-fsdp2", nothing, read},
    {"ddp-average-in-collective", nothing, no_effect},
    {"ddp-pad-buckets-for-high-nccl-busbw", nothing, not_modelled},
    {"nccl-ub", nothing, not_modelled},
    // Batch.
    {"micro-batch-size", integer, read},
    {"global-batch-size", integer, read},
    {"rampup-batch-size", several, not_modelled},
    {"seq-length", integer, read},
    {"train-iters", integer, no_effect},
    {"train-samples", integer, no_effect},
    {"decrease-batch-size-if-needed", nothing, no_effect},
    // Memory.
    {"recompute-activations", nothing, read},
    {"recompute-granularity", text, read},
    {"recompute-method", text, read},
    {"recompute-num-layers", integer, read},
    {"recompute-modules", several, read},
    {"fine-grained-activation-offloading", nothing, not_modelled},
    {"offload-modules", several, not_modelled},
    {"optimizer-cpu-offload", nothing, not_modelled},
    {"overlap-cpu-optimizer-d2h-h2d", nothing, not_modelled},
    {"use-precision-aware-optimizer", nothing, not_modelled},
    {"main-grads-dtype", text, not_modelled},
    {"main-params-dtype", text, not_modelled},
    {"exp-avg-dtype", text, not_modelled},
    {"exp-avg-sq-dtype", text, not_modelled},
    // Precision.
    {"bf16", nothing, read},
    {"fp16", nothing, read},
    {"fp8-format", text, read},
    {"fp8-recipe", text, read},
    {"fp8-param-gather", nothing, not_modelled},
    // Model.
    {"use-mcore-models", nothing, no_effect},
    {"transformer-impl", text, no_effect},
    {"num-layers", integer, read},
    {"hidden-size", integer, read},
    {"ffn-hidden-size", integer, read},
    {"num-attention-heads", integer, read},
    {"group-query-attention", nothing, read},
    {"num-query-groups", integer, read},
    {"kv-channels", integer, read},
    {"swiglu", nothing, read},
    {"untie-embeddings-and-output-weights", nothing, read},
    {"normalization", text, read},
    {"norm-epsilon", number, no_effect},
    {"layernorm-epsilon", number, no_effect},
    {"apply-layernorm-1p", nothing, no_effect},
    {"disable-bias-linear", nothing, read},
    {"add-qkv-bias", nothing, read},
    {"position-embedding-type", text, read},
    {"use-rotary-position-embeddings", nothing, read},
    {"rotary-base", number, no_effect},
    {"rotary-percent", number, no_effect},
    {"rotary-scaling-factor", number, no_effect},
    {"rope-scaling-factor", number, no_effect},
    {"use-rope-scaling", nothing, no_effect},
    {"rope-type", text, no_effect},
    {"mscale", number, no_effect},
    {"mscale-all-dim", number, no_effect},
    {"original-max-position-embeddings", integer, no_effect},
    {"max-position-embeddings", integer, read},
    {"make-vocab-size-divisible-by", integer, read},
    {"vocab-size", integer, read},
    {"padded-vocab-size", integer, read},
    {"tokenizer-type", text, read},
    {"tokenizer-model", text, no_effect},
    {"qk-layernorm", nothing, read},
    {"multi-latent-attention", nothing, read},
    {"q-lora-rank", integer, read},
    {"kv-lora-rank", integer, read},
    {"qk-head-dim", integer, read},
    {"qk-pos-emb-head-dim", integer, read},
    {"v-head-dim", integer, read},
    {"mtp-num-layers", integer, read},
    {"mtp-loss-scaling-factor", number, no_effect},
    {"attention-dropout", number, no_effect},
    {"hidden-dropout", number, no_effect},
    {"attention-softmax-in-fp32", nothing, no_effect},
    {"attention-backend", text, not_modelled},
    {"use-flash-attn", nothing, no_effect},
    {"init-method-std", number, no_effect},
    {"no-masked-softmax-fusion", nothing, not_modelled},
    {"no-bias-swiglu-fusion", nothing, not_modelled},
    {"no-rope-fusion", nothing, not_modelled},
    {"no-gradient-accumulation-fusion", nothing, not_modelled},
    {"cross-entropy-loss-fusion", nothing, not_modelled},
    {"cross-entropy-fusion-impl", text, not_modelled},
    // Experts.
    {"num-experts", integer, read},
    {"moe-layer-freq", text, read},
    {"moe-ffn-hidden-size", integer, read},
    {"moe-shared-expert-intermediate-size", integer, read},
    {"moe-shared-expert-overlap", nothing, not_modelled},
    {"moe-shared-expert-gate", nothing, read},
    {"moe-router-topk", integer, read},
    {"moe-router-num-groups", integer, read},
    {"moe-router-group-topk", integer, read},
    {"moe-router-topk-scaling-factor", number, no_effect},
    {"moe-router-score-function", text, no_effect},
    {"moe-router-pre-softmax", nothing, no_effect},
    {"moe-router-dtype", text, not_modelled},
    {"moe-router-enable-expert-bias", nothing, read},
    {"moe-router-bias-update-rate", number, no_effect},
    {"moe-router-load-balancing-type", several, no_effect},
    {"moe-router-force-load-balancing", nothing, read},
    {"moe-aux-loss-coeff", several, no_effect},
    {"moe-z-loss-coeff", number, no_effect},
    {"moe-input-jitter-eps", number, no_effect},
    {"moe-token-dispatcher-type", text, read},
    {"moe-flex-dispatcher-backend", text, not_modelled},
    {"moe-enable-deepep", nothing, not_modelled},
    {"moe-deepep-num-sms", integer, not_modelled},
    {"moe-hybridep-num-sms", integer, not_modelled},
    {"moe-expert-capacity-factor", number, not_modelled},
    {"moe-pad-expert-input-to-capacity", nothing, not_modelled},
    {"moe-token-drop-policy", text, not_modelled},
    {"moe-grouped-gemm", nothing, no_effect},
    {"moe-permute-fusion", nothing, not_modelled},
    {"moe-router-fusion", nothing, not_modelled},
    {"moe-latent-size", integer, not_modelled},
    {"cuda-graph-impl", text, not_modelled},
    {"enable-cuda-graph", nothing, not_modelled},
    {"cuda-graph-scope", several, not_modelled},
    // Overlap.
    {"overlap-moe-expert-parallel-comm", nothing, read},
    {"delay-wgrad-compute", nothing, not_modelled},
    {"ep-overlap-early-attn-memory-release", nothing, not_modelled},
    {"overlap-dispatch-backward-with-experts-wgrad", nothing, not_modelled},
    // The rest of a usual script.
    {"manual-gc", nothing, no_effect},
    {"manual-gc-interval", integer, no_effect},
    {"distributed-backend", text, no_effect},
    {"distributed-timeout-minutes", integer, no_effect},
    {"no-check-for-nan-in-loss-and-grad", nothing, no_effect},
    {"check-for-nan-in-loss-and-grad", nothing, no_effect},
    {"no-create-attention-mask-in-dataloader", nothing, no_effect},
    {"optimizer", text, read},
    {"lr", number, no_effect},
    {"min-lr", number, no_effect},
    {"lr-decay-style", text, no_effect},
    {"lr-decay-iters", integer, no_effect},
    {"lr-decay-samples", integer, no_effect},
    {"lr-warmup-iters", integer, no_effect},
    {"lr-warmup-samples", integer, no_effect},
    {"lr-warmup-init", number, no_effect},
    {"lr-warmup-fraction", number, no_effect},
    {"lr-wsd-decay-style", text, no_effect},
    {"weight-decay", number, no_effect},
    {"clip-grad", number, no_effect},
    {"adam-beta1", number, no_effect},
    {"adam-beta2", number, no_effect},
    {"adam-eps", number, no_effect},
    {"initial-loss-scale", number, no_effect},
    {"loss-scale-window", number, no_effect},
    {"seed", integer, no_effect},
    {"data-path", several, no_effect},
    {"data-cache-path", text, no_effect},
    {"mock-data", nothing, no_effect},
    {"split", text, no_effect},
    {"vocab-file", text, no_effect},
    {"merge-file", text, no_effect},
    {"num-workers", integer, no_effect},
    {"dataloader-type", text, no_effect},
    {"reset-position-ids", nothing, no_effect},
    {"reset-attention-mask", nothing, no_effect},
    {"eod-mask-loss", nothing, no_effect},
    {"save", text, no_effect},
    {"load", text, no_effect},
    {"save-interval", integer, no_effect},
    {"no-load-optim", nothing, no_effect},
    {"no-load-rng", nothing, no_effect},
    {"no-save-optim", nothing, no_effect},
    {"ckpt-format", text, no_effect},
    {"auto-detect-ckpt-format", nothing, no_effect},
    {"use-dist-ckpt", nothing, no_effect},
    {"async-save", nothing, no_effect},
    {"dist-ckpt-strictness", text, no_effect},
    {"finetune", nothing, no_effect},
    {"eval-interval", integer, no_effect},
    {"eval-iters", integer, no_effect},
    {"exit-duration-in-mins", integer, no_effect},
    {"exit-interval", integer, no_effect},
    {"log-interval", integer, no_effect},
    {"log-throughput", nothing, no_effect},
    {"log-timers-to-tensorboard", nothing, no_effect},
    {"log-memory-to-tensorboard", nothing, no_effect},
    {"log-num-zeros-in-grad", nothing, no_effect},
    {"log-params-norm", nothing, no_effect},
    {"log-validation-ppl-to-tensorboard", nothing, no_effect},
    {"logging-level", integer, no_effect},
    {"timing-log-level", integer, no_effect},
    {"tensorboard-dir", text, no_effect},
    {"tensorboard-queue-size", integer, no_effect},
    {"wandb-project", text, no_effect},
    {"wandb-exp-name", text, no_effect},
    {"wandb-save-dir", text, no_effect},
    {"profile", nothing, no_effect},
    {"profile-step-start", integer, no_effect},
    {"profile-step-end", integer, no_effect},
    {"profile-ranks", several, no_effect},
});

const MegatronFlag* flag_named(std::string_view name) {
  const auto at = std::find_if(kFlags.begin(), kFlags.end(),
                               [&](const MegatronFlag& f) { return f.name == name; });
  return at == kFlags.end() ? nullptr : &*at;
}

std::string written(const MegatronArg& a) {
  std::string text = "--" + a.name;
  for (const std::string& v : a.values) text += " " + v;
  return text;
}

}  // namespace

std::span<const MegatronFlag> megatron_flags() {
  return kFlags;
}

MegatronRun::MegatronRun(const MegatronArgs& args) : args_(args) {
  for (const MegatronArg& a : args.args) {
    const MegatronFlag* flag = flag_named(a.name);
    if (!flag) continue;
    const bool fits = flag->takes == nothing   ? a.values.empty()
                      : flag->takes == several ? !a.values.empty()
                                               : a.values.size() == 1;
    if (!fits)
      throw Error({args.reading, fmt::format("line {}", a.line),
                   fmt::format("--{} with {}", a.name,
                               flag->takes == nothing   ? "no value"
                               : flag->takes == several ? "values"
                                                        : "one value"),
                   "'" + written(a) + "'", ""});
  }
}

const MegatronArg* MegatronRun::find(std::string_view name) const {
  assert(flag_named(name) && flag_named(name)->role == read);
  const auto at = std::find_if(args_.args.rbegin(), args_.args.rend(),
                               [&](const MegatronArg& a) { return a.name == name; });
  return at == args_.args.rend() ? nullptr : &*at;
}

void MegatronRun::refuse(std::string_view name, std::string expected, std::string found,
                         std::string hint) const {
  const MegatronArg* a = find(name);
  throw Error({args_.reading,
               a ? fmt::format("line {}, --{}", a->line, name) : fmt::format("--{}", name),
               std::move(expected), std::move(found), std::move(hint)});
}

std::int64_t MegatronRun::integer(std::string_view name, std::int64_t least,
                                  std::int64_t most) const {
  const std::string expected = fmt::format("an integer from {} to {}", least, most);
  const MegatronArg* a = find(name);
  if (!a) refuse(name, expected, "nothing");
  const std::string& text = a->values[0];
  std::int64_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc{} || end != text.data() + text.size() || value < least || value > most)
    refuse(name, expected, "'" + text + "'",
           text.find('$') == text.npos ? ""
                                       : "the script takes this from outside: write the value in");
  return value;
}

std::int64_t MegatronRun::integer_or(std::string_view name, std::int64_t otherwise,
                                     std::int64_t least, std::int64_t most) const {
  return has(name) ? integer(name, least, most) : otherwise;
}

std::string MegatronRun::text_or(std::string_view name, std::string_view otherwise) const {
  const MegatronArg* a = find(name);
  return a ? a->values[0] : std::string(otherwise);
}

std::vector<std::string> MegatronRun::list(std::string_view name) const {
  const MegatronArg* a = find(name);
  return a ? a->values : std::vector<std::string>{};
}

std::vector<std::string> MegatronRun::unknown() const {
  std::vector<std::string_view> names;
  for (const MegatronFlag& f : kFlags) names.push_back(f.name);
  std::vector<std::string> list;
  for (const MegatronArg& a : args_.args) {
    if (flag_named(a.name)) continue;
    const std::string_view near = nearest_name(a.name, names);
    std::string text = written(a);
    if (!near.empty()) text += fmt::format(" (did you mean --{}?)", near);
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(std::move(text));
  }
  return list;
}

std::vector<std::string> MegatronRun::not_modelled() const {
  std::vector<std::string> list;
  for (const MegatronArg& a : args_.args) {
    const MegatronFlag* flag = flag_named(a.name);
    if (!flag || flag->role != FlagRole::not_modelled) continue;
    if (a.name.find("tp-comm-") != a.name.npos && !has("tp-comm-overlap")) continue;
    const std::string text = written(a);
    if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
  }
  return list;
}

}  // namespace steploom
