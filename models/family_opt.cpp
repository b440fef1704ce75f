// opt: LayerNorm and biases everywhere, learned positions, ReLU, the head tied to the embedding.
// The table of positions has two rows that no position uses; opt-350m has a narrower embedding,
// projected to and from the layers' width, and no norm before the head.
#include <fmt/format.h>

#include <array>

#include "models/config_keys.h"
#include "models/families.h"

namespace steploom {

ModelSpec read_opt(const Json& config) {
  static constexpr std::array<std::string_view, 11> kKeys{"hidden_size",
                                                          "d_model",
                                                          "ffn_dim",
                                                          "num_hidden_layers",
                                                          "vocab_size",
                                                          "num_attention_heads",
                                                          "tie_word_embeddings",
                                                          "enable_bias",
                                                          "max_position_embeddings",
                                                          "word_embed_proj_dim",
                                                          "do_layer_norm_before"};
  refuse_misspelt(config, kKeys);
  ModelSpec spec;
  spec.hidden = either(config, {"hidden_size", "d_model"}).integer(1, kMostWidth);
  spec.layers = config.at("num_hidden_layers").small_integer(1, kMostLayers);
  spec.vocab = config.at("vocab_size").integer(1, kMostVocab);
  spec.max_positions = config.at("max_position_embeddings").integer(1, kMostPositions);
  spec.tied_embeddings = flag_or(config, "tie_word_embeddings", true);
  spec.learned_positions = true;
  spec.unused_positions = 2;
  spec.norm_bias = true;
  if (const auto width = config.find("word_embed_proj_dim")) {
    const std::int64_t w = width->integer(1, kMostWidth);
    if (w != spec.hidden) spec.embedding_width = w;
  }
  // Where norms come after each part, the last layer ends with one already.
  spec.final_norm = flag_or(config, "do_layer_norm_before", true) &&
                    !flag_or(config, "_remove_final_layer_norm", false);

  const bool biases = flag_or(config, "enable_bias", true);
  const Json heads = config.at("num_attention_heads");
  AttentionSpec& attention = spec.attention;
  attention.heads = heads.small_integer(1, kMostHeads);
  if (spec.hidden % attention.heads != 0)
    heads.refuse(fmt::format("a divisor of hidden_size {}", spec.hidden));
  attention.kv_heads = attention.heads;
  attention.head_dim = static_cast<int>(spec.hidden / attention.heads);
  attention.v_head_dim = attention.head_dim;
  attention.qkv_bias = attention.out_bias = biases;
  attention.rotary = false;

  spec.dense = {
      .width = config.at("ffn_dim").integer(1, kMostWidth), .gated = false, .bias = biases};
  spec.layer_is_moe.assign(static_cast<std::size_t>(spec.layers), false);
  return spec;
}

}  // namespace steploom
