// gpt_moe: a gpt2 whose every moe_layer_step-th layer has experts in place of its feed-forward
// part, each as wide as that. No hub model: papers on mixtures of experts measure such stacks
// (docs/models.md). "bidirectional" makes it an encoder, "learned_positions" false leaves the table
// of positions out.
#include <fmt/format.h>

#include <array>

#include "models/config_keys.h"
#include "models/families.h"

namespace steploom {

ModelSpec read_gpt_moe(const Json& config) {
  static constexpr std::array<std::string_view, 12> kKeys{
      "n_embd",        "n_layer",           "n_head",         "n_positions",
      "n_inner",       "vocab_size",        "num_experts",    "num_experts_per_tok",
      "bidirectional", "learned_positions", "moe_layer_step", "tie_word_embeddings"};
  refuse_misspelt(config, kKeys);
  ModelSpec spec = read_gpt2(config);
  spec.learned_positions = flag_or(config, "learned_positions", true);
  spec.attention.both_ways = flag_or(config, "bidirectional", false);
  MoeSpec moe;
  moe.experts = config.at("num_experts").small_integer(1, kMostExperts);
  moe.top_k = read_top_k(config, moe.experts);
  moe.expert = spec.dense;
  spec.moe = moe;
  const int step = config.at("moe_layer_step").small_integer(1, spec.layers);
  for (int i = 0; i < spec.layers; ++i)
    spec.layer_is_moe[static_cast<std::size_t>(i)] = (i + 1) % step == 0;
  return spec;
}

}  // namespace steploom
