// gpt2: LayerNorm and biases everywhere, learned positions, GELU, the head tied to the embedding.
#include <fmt/format.h>

#include <array>

#include "models/config_keys.h"
#include "models/families.h"

namespace steploom {

ModelSpec read_gpt2(const Json& config) {
  static constexpr std::array<std::string_view, 7> kKeys{
      "n_embd", "n_layer", "n_head", "n_positions", "n_inner", "vocab_size", "tie_word_embeddings"};
  refuse_misspelt(config, kKeys);
  ModelSpec spec;
  spec.hidden = config.at("n_embd").integer(1, kMostWidth);
  spec.layers = config.at("n_layer").small_integer(1, kMostLayers);
  spec.vocab = config.at("vocab_size").integer(1, kMostVocab);
  spec.max_positions = config.at("n_positions").integer(1, kMostPositions);
  spec.tied_embeddings = flag_or(config, "tie_word_embeddings", true);
  spec.learned_positions = true;
  spec.norm_bias = true;

  const Json heads = config.at("n_head");
  AttentionSpec& attention = spec.attention;
  attention.heads = heads.small_integer(1, kMostHeads);
  if (spec.hidden % attention.heads != 0) {
    heads.refuse(fmt::format("a divisor of n_embd {}", spec.hidden));
  }
  attention.kv_heads = attention.heads;
  attention.head_dim = static_cast<int>(spec.hidden / attention.heads);
  attention.v_head_dim = attention.head_dim;
  attention.qkv_bias = true;
  attention.out_bias = true;
  attention.rotary = false;

  const auto inner = config.find("n_inner");
  spec.dense = {.width = inner ? inner->integer(1, kMostWidth) : 4 * spec.hidden,
                .gated = false,
                .bias = true};
  spec.layer_is_moe.assign(static_cast<std::size_t>(spec.layers), false);
  return spec;
}

}  // namespace steploom
