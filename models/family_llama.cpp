// llama and its dense kin: RMSNorm, rotary positions, grouped queries, SwiGLU. They differ in where
// biases stand, in qwen3's norms on q and k, and in the layers whose queries see a window of
// tokens.
#include <array>
#include <vector>

#include "models/config_keys.h"
#include "models/families.h"

namespace steploom {
namespace {

constexpr int kQwen3HeadDim = 128;  // Qwen3Config's default

ModelSpec read_dense(const Json& config, int head_dim) {
  static constexpr std::array<std::string_view, 15> kKeys{
      "hidden_size",         "intermediate_size", "num_hidden_layers", "num_attention_heads",
      "num_key_value_heads", "head_dim",          "vocab_size",        "max_position_embeddings",
      "tie_word_embeddings", "attention_bias",    "mlp_bias",          "sliding_window",
      "use_sliding_window",  "max_window_layers", "layer_types"};
  refuse_misspelt(config, kKeys);
  ModelSpec spec = read_trunk(config);
  spec.attention = read_grouped_query(config, spec.hidden, head_dim);
  spec.dense.width = config.at("intermediate_size").integer(1, kMostWidth);
  spec.layer_is_moe.assign(static_cast<std::size_t>(spec.layers), false);
  return spec;
}

void read_attention_bias(const Json& config, AttentionSpec& attention) {
  attention.qkv_bias = flag_or(config, "attention_bias", false);
  attention.out_bias = attention.qkv_bias;
}

}  // namespace

ModelSpec read_llama(const Json& config) {
  ModelSpec spec = read_dense(config, 0);
  read_attention_bias(config, spec.attention);
  spec.dense.bias = flag_or(config, "mlp_bias", false);
  return spec;
}

ModelSpec read_mistral(const Json& config) {
  ModelSpec spec = read_dense(config, 0);
  const std::vector<bool> every(static_cast<std::size_t>(spec.layers), true);
  read_windows(config, "sliding_window", "sliding_attention", every, spec);
  return spec;
}

ModelSpec read_qwen2(const Json& config) {
  ModelSpec spec = read_dense(config, 0);
  spec.attention.qkv_bias = true;  // in the code of the model, whatever the file says
  read_late_windows(config, spec);
  return spec;
}

ModelSpec read_qwen3(const Json& config) {
  ModelSpec spec = read_dense(config, kQwen3HeadDim);
  read_attention_bias(config, spec.attention);
  spec.attention.qk_norm = true;
  read_late_windows(config, spec);
  return spec;
}

}  // namespace steploom
