// llama4, the text part: experts in every interleave_moe_layer_step-th layer with a shared one
// beside them, dense layers of a width of their own (intermediate_size_mlp); most layers rotate q
// and k and attend within chunks of tokens, the others do neither.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "models/config_keys.h"
#include "models/families.h"

namespace steploom {
namespace {

std::vector<bool> read_layer_kinds(const Json& config, int layers) {
  std::vector<bool> is_moe(static_cast<std::size_t>(layers), false);
  const auto listed = config.find("moe_layers");
  if (listed && listed->size() > 0) {
    for (std::size_t i = 0; i < listed->size(); ++i)
      is_moe[static_cast<std::size_t>(listed->at(i).small_integer(0, layers - 1))] = true;
    return is_moe;
  }
  const auto key = config.find("interleave_moe_layer_step");
  const int step = key ? key->small_integer(1, layers) : 1;
  for (int i = step - 1; i < layers; i += step) is_moe[static_cast<std::size_t>(i)] = true;
  return is_moe;
}

// "no_rope_layers" has a 1 for each layer that rotates; absent or empty: all but every fourth.
std::vector<bool> read_rotating(const Json& config, int layers) {
  constexpr int kEvery = 4;  // Llama4TextConfig's default
  std::vector<bool> rotates;
  const auto listed = config.find("no_rope_layers");
  if (!listed || listed->size() == 0) {
    const auto interval = config.find("no_rope_layer_interval");
    const int every = interval ? interval->small_integer(1, kMostLayers) : kEvery;
    for (int i = 0; i < layers; ++i) rotates.push_back((i + 1) % every != 0);
    return rotates;
  }
  if (listed->size() != static_cast<std::size_t>(layers))
    listed->refuse(fmt::format("an entry for each of the {} layers", layers));
  for (std::size_t i = 0; i < listed->size(); ++i)
    rotates.push_back(listed->at(i).small_integer(0, 1) == 1);
  return rotates;
}

}  // namespace

ModelSpec read_llama4(const Json& config) {
  static constexpr std::array<std::string_view, 20> kKeys{"hidden_size",
                                                          "intermediate_size",
                                                          "intermediate_size_mlp",
                                                          "num_hidden_layers",
                                                          "num_attention_heads",
                                                          "num_key_value_heads",
                                                          "head_dim",
                                                          "vocab_size",
                                                          "max_position_embeddings",
                                                          "tie_word_embeddings",
                                                          "attention_bias",
                                                          "num_local_experts",
                                                          "num_experts_per_tok",
                                                          "moe_layers",
                                                          "interleave_moe_layer_step",
                                                          "no_rope_layers",
                                                          "attention_chunk_size",
                                                          "use_qk_norm",
                                                          "layer_types",
                                                          "no_rope_layer_interval"};
  refuse_misspelt(config, kKeys);
  ModelSpec spec = read_trunk(config);
  spec.attention = read_grouped_query(config, spec.hidden);
  spec.attention.qkv_bias = flag_or(config, "attention_bias", false);
  spec.attention.out_bias = spec.attention.qkv_bias;
  spec.attention.qk_norm = flag_or(config, "use_qk_norm", true);
  spec.attention.qk_gain = false;

  MoeSpec moe;
  moe.experts = config.at("num_local_experts").small_integer(1, kMostExperts);
  moe.top_k = read_top_k(config, moe.experts);
  moe.expert.width = config.at("intermediate_size").integer(1, kMostWidth);
  moe.shared_width = moe.expert.width;
  spec.moe = moe;
  spec.layer_is_moe = read_layer_kinds(config, spec.layers);
  spec.dense.width = config.at("intermediate_size_mlp").integer(1, kMostWidth);

  config.at("attention_chunk_size");  // without it nothing says which layers rotate
  read_windows(config, "attention_chunk_size", "chunked_attention",
               read_rotating(config, spec.layers), spec);
  spec.attention.chunked = true;
  spec.attention.global_rotary = false;
  return spec;
}

}  // namespace steploom
