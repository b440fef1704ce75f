// qwen2_moe and qwen3_moe: a qwen whose layers have experts at every decoder_sparse_step-th place
// but where mlp_only_layers says otherwise. qwen2_moe has a gated shared expert and biases on q, k
// and v, qwen3_moe norms on q and k.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "models/config_keys.h"
#include "models/families.h"

namespace steploom {
namespace {

// Layer i has experts if decoder_sparse_step divides i + 1 and i is not in mlp_only_layers.
std::vector<bool> read_layer_kinds(const Json& config, int layers) {
  const auto step = config.find("decoder_sparse_step");
  const int every = step ? step->small_integer(1, kMostLayers) : 1;
  std::vector<bool> is_moe;
  for (int i = 0; i < layers; ++i) is_moe.push_back((i + 1) % every == 0);
  if (const auto dense = config.find("mlp_only_layers"))
    for (std::size_t i = 0; i < dense->size(); ++i)
      is_moe[static_cast<std::size_t>(dense->at(i).small_integer(0, layers - 1))] = false;
  if (std::find(is_moe.begin(), is_moe.end(), true) == is_moe.end())
    config.at("num_hidden_layers")
        .refuse(fmt::format("layers with experts, which come every {} layers", every));
  return is_moe;
}

ModelSpec read_qwen_moe(const Json& config) {
  static constexpr std::array<std::string_view, 21> kKeys{"hidden_size",
                                                          "intermediate_size",
                                                          "num_hidden_layers",
                                                          "num_attention_heads",
                                                          "num_key_value_heads",
                                                          "head_dim",
                                                          "vocab_size",
                                                          "max_position_embeddings",
                                                          "tie_word_embeddings",
                                                          "attention_bias",
                                                          "qkv_bias",
                                                          "num_experts",
                                                          "num_local_experts",
                                                          "num_experts_per_tok",
                                                          "moe_intermediate_size",
                                                          "shared_expert_intermediate_size",
                                                          "decoder_sparse_step",
                                                          "mlp_only_layers",
                                                          "sliding_window",
                                                          "use_sliding_window",
                                                          "max_window_layers"};
  refuse_misspelt(config, kKeys);
  ModelSpec spec = read_trunk(config);
  spec.attention = read_grouped_query(config, spec.hidden);
  spec.layer_is_moe = read_layer_kinds(config, spec.layers);
  // Dense layers alone have this width; a file may leave it out where there are none.
  const bool all_moe = std::find(spec.layer_is_moe.begin(), spec.layer_is_moe.end(), false) ==
                       spec.layer_is_moe.end();
  if (!all_moe || config.has("intermediate_size"))
    spec.dense.width = config.at("intermediate_size").integer(1, kMostWidth);
  MoeSpec moe;
  moe.experts = either(config, {"num_experts", "num_local_experts"}).small_integer(1, kMostExperts);
  moe.top_k = read_top_k(config, moe.experts);
  moe.expert.width = config.at("moe_intermediate_size").integer(1, kMostWidth);
  spec.moe = moe;
  read_late_windows(config, spec);
  return spec;
}

}  // namespace

ModelSpec read_qwen2_moe(const Json& config) {
  ModelSpec spec = read_qwen_moe(config);
  spec.attention.qkv_bias = flag_or(config, "qkv_bias", true);
  spec.moe->shared_width = config.at("shared_expert_intermediate_size").integer(0, kMostWidth);
  spec.moe->shared_gate = spec.moe->shared_width > 0;
  return spec;
}

ModelSpec read_qwen3_moe(const Json& config) {
  ModelSpec spec = read_qwen_moe(config);
  spec.attention.qkv_bias = flag_or(config, "attention_bias", false);
  spec.attention.out_bias = spec.attention.qkv_bias;
  spec.attention.qk_norm = true;
  return spec;
}

}  // namespace steploom
