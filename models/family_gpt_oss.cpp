// gpt_oss: experts in every layer, biases on all products, a learned sink beside each head's keys,
// and a sliding window in every other layer.
#include <array>
#include <vector>

#include "models/config_keys.h"
#include "models/families.h"

namespace steploom {

ModelSpec read_gpt_oss(const Json& config) {
  static constexpr std::array<std::string_view, 15> kKeys{
      "hidden_size",         "intermediate_size", "num_hidden_layers", "num_attention_heads",
      "num_key_value_heads", "head_dim",          "vocab_size",        "max_position_embeddings",
      "tie_word_embeddings", "attention_bias",    "num_local_experts", "num_experts",
      "num_experts_per_tok", "sliding_window",    "layer_types"};
  refuse_misspelt(config, kKeys);
  constexpr int kHeadDim = 64;  // GptOssConfig's default
  ModelSpec spec = read_trunk(config);
  spec.attention = read_grouped_query(config, spec.hidden, kHeadDim);
  spec.attention.qkv_bias = flag_or(config, "attention_bias", true);
  spec.attention.out_bias = spec.attention.qkv_bias;
  spec.attention.sinks = true;

  MoeSpec moe;
  moe.experts = either(config, {"num_local_experts", "num_experts"}).small_integer(1, kMostExperts);
  moe.top_k = read_top_k(config, moe.experts);
  moe.expert = {
      .width = config.at("intermediate_size").integer(1, kMostWidth), .gated = true, .bias = true};
  moe.router_bias = true;
  spec.moe = moe;
  spec.layer_is_moe.assign(static_cast<std::size_t>(spec.layers), true);

  std::vector<bool> even;
  for (int i = 0; i < spec.layers; ++i) even.push_back(i % 2 == 0);
  read_windows(config, "sliding_window", "sliding_attention", even, spec);
  return spec;
}

}  // namespace steploom
