// mixtral: a llama whose every feed-forward part is a mixture of experts. intermediate_size is the
// width of one expert; there is no shared expert.
#include <array>
#include <vector>

#include "models/config_keys.h"
#include "models/families.h"

namespace steploom {

ModelSpec read_mixtral(const Json& config) {
  static constexpr std::array<std::string_view, 13> kKeys{
      "hidden_size",         "intermediate_size", "num_hidden_layers", "num_attention_heads",
      "num_key_value_heads", "head_dim",          "vocab_size",        "max_position_embeddings",
      "tie_word_embeddings", "num_local_experts", "num_experts",       "num_experts_per_tok",
      "sliding_window"};
  refuse_misspelt(config, kKeys);
  ModelSpec spec = read_trunk(config);
  spec.attention = read_grouped_query(config, spec.hidden);
  MoeSpec moe;
  moe.experts = either(config, {"num_local_experts", "num_experts"}).small_integer(1, kMostExperts);
  moe.top_k = read_top_k(config, moe.experts);
  moe.expert.width = config.at("intermediate_size").integer(1, kMostWidth);
  spec.moe = moe;
  const std::vector<bool> every(static_cast<std::size_t>(spec.layers), true);
  spec.layer_is_moe = every;
  read_windows(config, "sliding_window", "sliding_attention", every, spec);
  return spec;
}

}  // namespace steploom
