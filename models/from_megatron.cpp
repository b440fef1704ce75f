#include "models/from_megatron.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "models/config_keys.h"
#include "models/error.h"
#include "models/megatron_flags.h"
#include "models/megatron_layout.h"
#include "models/nearest.h"
#include "models/parameters.h"

namespace steploom {
namespace {

constexpr std::int64_t kMostTokens = std::int64_t{1} << 32;
constexpr int kMostDegree = 1 << 20;

int degree(const MegatronRun& run, std::string_view flag) {
  return static_cast<int>(run.integer_or(flag, 1, 1, kMostDegree));
}

std::string_view one_of(const MegatronRun& run, std::string_view flag, std::string_view otherwise,
                        std::span<const std::string_view> known) {
  const std::string text = run.text_or(flag, otherwise);
  const auto at = std::find(known.begin(), known.end(), text);
  if (at == known.end())
    run.refuse(flag, fmt::format("{}", fmt::join(known, ", ")), "'" + text + "'");
  return *at;
}

// Megatron's tokenizers that fix the vocabulary by themselves.
struct TokenizerSize {
  std::string_view type;
  std::int64_t vocab;
};
constexpr std::array<TokenizerSize, 2> kTokenizers{
    {{"GPT2BPETokenizer", 50257}, {"Llama2Tokenizer", 32000}}};

// As many as the tokenizer has, where Megatron pads them as the builder does (parameters.h); else
// as it pads them.
std::int64_t vocab_of(const MegatronRun& run, int tp) {
  const bool padded = run.has("padded-vocab-size");
  if (padded && !run.has("vocab-size")) return run.integer("padded-vocab-size", 1, kMostVocab);
  std::int64_t vocab = 0;
  if (run.has("vocab-size")) {
    vocab = run.integer("vocab-size", 1, kMostVocab);
  } else {
    const std::string type = run.text_or("tokenizer-type", "");
    for (const TokenizerSize& t : kTokenizers)
      if (t.type == type) vocab = t.vocab;
    if (vocab == 0)
      run.refuse("vocab-size", fmt::format("an integer from 1 to {}", kMostVocab), "nothing",
                 "it is in the tokenizer's file, which is not read: add --vocab-size");
  }
  const std::int64_t unit = run.integer_or("make-vocab-size-divisible-by", 128, 1, kMostVocab) * tp;
  const std::int64_t rows =
      padded ? run.integer("padded-vocab-size", 1, kMostVocab) : (vocab + unit - 1) / unit * unit;
  return rows == padded_vocab(vocab, tp) ? vocab : rows;
}

AttentionSpec attention_of(const MegatronRun& run, std::int64_t hidden, bool biases) {
  AttentionSpec a;
  a.heads = static_cast<int>(run.integer("num-attention-heads", 1, kMostHeads));
  // Latent attention's norms are those of its latents, which it always has here.
  a.qk_norm = run.has("qk-layernorm") && !run.has("multi-latent-attention");
  static constexpr std::array<std::string_view, 5> kPositions{"learned_absolute", "rope", "mrope",
                                                              "yarn", "none"};
  const std::string_view positions =
      one_of(run, "position-embedding-type", "learned_absolute", kPositions);
  a.rotary = run.has("use-rotary-position-embeddings") ||
             (positions != kPositions.front() && positions != kPositions.back());
  a.out_bias = biases;
  if (run.has("multi-latent-attention")) {
    a.kind = AttentionKind::latent;
    a.kv_heads = a.heads;
    a.q_lora_rank = static_cast<int>(run.integer_or("q-lora-rank", 0, 1, kMostWidth));
    a.kv_lora_rank = static_cast<int>(run.integer_or("kv-lora-rank", 32, 1, kMostWidth));
    a.qk_nope_head_dim = static_cast<int>(run.integer_or("qk-head-dim", 128, 1, kMostHeadDim));
    a.qk_rope_head_dim =
        static_cast<int>(run.integer_or("qk-pos-emb-head-dim", 64, 1, kMostHeadDim));
    a.head_dim = a.qk_nope_head_dim + a.qk_rope_head_dim;
    a.v_head_dim = static_cast<int>(run.integer_or("v-head-dim", 128, 1, kMostHeadDim));
    a.rotary = true;
    return a;
  }
  if (!run.has("kv-channels") && hidden % a.heads != 0)
    run.refuse("num-attention-heads", fmt::format("a divisor of --hidden-size {}", hidden),
               std::to_string(a.heads));
  a.head_dim = static_cast<int>(run.integer_or("kv-channels", hidden / a.heads, 1, kMostHeadDim));
  a.v_head_dim = a.head_dim;
  a.kv_heads = run.has("group-query-attention")
                   ? static_cast<int>(run.integer_or("num-query-groups", 1, 1, a.heads))
                   : a.heads;
  if (a.heads % a.kv_heads != 0)
    run.refuse("num-query-groups", fmt::format("a divisor of the {} heads", a.heads),
               std::to_string(a.kv_heads));
  a.qkv_bias = biases || run.has("add-qkv-bias");
  return a;
}

void read_experts(const MegatronRun& run, ModelSpec& m) {
  MoeSpec moe;
  moe.experts = static_cast<int>(run.integer("num-experts", 1, kMostExperts));
  moe.top_k = static_cast<int>(run.integer_or("moe-router-topk", 2, 1, moe.experts));
  moe.expert = m.dense;
  moe.expert.width = run.integer_or("moe-ffn-hidden-size", m.dense.width, 1, kMostWidth);
  moe.shared_width = run.integer_or("moe-shared-expert-intermediate-size", 0, 1, kMostWidth);
  moe.shared_gate = run.has("moe-shared-expert-gate");
  moe.correction_bias = run.has("moe-router-enable-expert-bias");
  moe.groups = static_cast<int>(run.integer_or("moe-router-num-groups", 1, 1, moe.experts));
  moe.top_groups = static_cast<int>(run.integer_or("moe-router-group-topk", 1, 1, moe.groups));
  m.moe = moe;
  const std::string frequency = run.text_or("moe-layer-freq", "1");
  m.layer_is_moe = expert_layers(frequency, m.layers, kMostLayers);
  if (m.layer_is_moe.size() != static_cast<std::size_t>(m.layers))
    run.refuse("moe-layer-freq",
               fmt::format("a whole number, or a Python list of {} times 0 or 1", m.layers),
               "'" + frequency + "'");
}

ModelSpec model_of(const MegatronRun& run, std::string name, int tp) {
  ModelSpec m;
  m.name = std::move(name);
  m.family = "megatron";
  m.hidden = run.integer("hidden-size", 1, kMostWidth);
  m.layers = static_cast<int>(run.integer("num-layers", 1, kMostLayers));
  m.vocab = vocab_of(run, tp);
  m.max_positions = run.integer_or("max-position-embeddings",
                                   run.integer("seq-length", 1, kMostPositions), 1, kMostPositions);
  m.tied_embeddings = !run.has("untie-embeddings-and-output-weights");
  static constexpr std::array<std::string_view, 2> kNorms{"LayerNorm", "RMSNorm"};
  m.norm_bias = one_of(run, "normalization", kNorms[0], kNorms) == kNorms[0];
  const bool biases = !run.has("disable-bias-linear");
  m.mtp_modules = static_cast<int>(run.integer_or("mtp-num-layers", 0, 1, kMostLayers));
  m.attention = attention_of(run, m.hidden, biases);
  m.learned_positions = !m.attention.rotary && run.text_or("position-embedding-type", "") != "none";
  const bool gated = run.has("swiglu");
  const std::int64_t usual = gated ? 4 * m.hidden * 2 / 3 / 64 * 64 : 4 * m.hidden;
  m.dense = {.width = run.integer_or("ffn-hidden-size", usual, 1, kMostWidth),
             .gated = gated,
             .bias = biases};
  if (run.has("num-experts"))
    read_experts(run, m);
  else
    m.layer_is_moe.assign(static_cast<std::size_t>(m.layers), false);
  return m;
}

constexpr std::array<std::string_view, 2> kOptimizerNames{"adam", "sgd"};

// fp8 recipes with one factor a tensor, or one a block (mxfp8 has blocks too).
Precision precision_of(const MegatronRun& run) {
  if (run.has("fp16") == run.has("bf16"))
    run.refuse("bf16", "one of --bf16 and --fp16", run.has("bf16") ? "both" : "none");
  if (!run.has("fp8-format")) return run.has("fp16") ? Precision::fp16 : Precision::bf16;
  static constexpr std::array<std::string_view, 2> kFormats{"hybrid", "e4m3"};
  static constexpr std::array<std::string_view, 4> kRecipes{"delayed", "tensorwise", "blockwise",
                                                            "mxfp8"};
  (void)one_of(run, "fp8-format", kFormats[0], kFormats);
  const auto recipe = one_of(run, "fp8-recipe", kRecipes[0], kRecipes);
  return recipe == kRecipes[0] || recipe == kRecipes[1] ? Precision::fp8 : Precision::fp8_block;
}

Workload workload_of(const MegatronRun& run, int micro_batch, const std::string& reading) {
  Workload w;
  w.seq_length = run.integer("seq-length", 1, kMostPositions);
  if (!run.has("global-batch-size"))
    run.refuse("global-batch-size", "the sequences of a step", "nothing",
               fmt::format("Megatron would take --micro-batch-size {} times dp", micro_batch));
  w.global_batch = run.integer("global-batch-size", 1, kMostTokens);
  w.precision = precision_of(run);
  if (one_of(run, "optimizer", "adam", kOptimizerNames) == kOptimizerNames[1])
    w.optimizer = Optimizer::sgd;
  validate(w, reading.c_str());
  return w;
}

Runtime runtime_of(const MegatronRun& run) {
  Runtime r = runtime_named("megatron-core");
  r.overlap_grad_reduce = run.has("overlap-grad-reduce");
  r.overlap_param_gather = run.has("overlap-param-gather");
  if (run.has("grad-reduce-in-bf16")) r.grad_bytes = 2;
  if (run.has("ddp-bucket-size")) {
    r.bucket_elements = run.integer("ddp-bucket-size", 1, std::int64_t{1} << 40);
    r.bucket_elements_per_rank = 0;
  }
  return r;
}

}  // namespace

MegatronQuestion from_megatron(const MegatronArgs& args, std::string name) {
  const MegatronRun run(args);
  MegatronQuestion q;
  const int tp = degree(run, "tensor-model-parallel-size");
  q.model = model_of(run, std::move(name), tp);
  q.work = workload_of(run, degree(run, "micro-batch-size"), args.reading);
  q.layout = megatron_layout(run, q.model);
  q.runtime = runtime_of(run);
  q.unknown = run.unknown();
  q.not_modelled = run.not_modelled();
  q.notes = args.notes;
  if (run.has("tp-comm-overlap") && !overlaps_tp(run, q.model))
    q.notes.emplace_back("--tp-comm-overlap: Megatron-Core turns it off with latent attention");
  if (std::string note = dispatcher_note(run, q.model); !note.empty())
    q.notes.push_back(std::move(note));
  return q;
}

}  // namespace steploom
