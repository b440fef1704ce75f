#include "models/config_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "models/error.h"
#include "models/nearest.h"

namespace steploom {

void refuse_misspelt(const Json& config, std::span<const std::string_view> shape_keys) {
  std::vector<std::string_view> missing;
  for (const std::string_view key : shape_keys) {
    if (!config.has(key)) missing.push_back(key);
  }
  for (const std::string& key : config.keys()) {
    if (std::find(shape_keys.begin(), shape_keys.end(), key) != shape_keys.end()) continue;
    if (nearest_name(key, missing).empty()) continue;
    throw Error({config.reading(), config.pointer() + "/" + key, "a key of a model's config",
                 fmt::format("'{}'", key), nearest_hint(key, missing)});
  }
}

Json either(const Json& config, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const auto value = config.find(name)) return *value;
  }
  return config.at(*names.begin());
}

bool flag_or(const Json& config, std::string_view key, bool absent) {
  const auto value = config.find(key);
  return value ? value->boolean() : absent;
}

ModelSpec read_trunk(const Json& config) {
  ModelSpec spec;
  spec.hidden = config.at("hidden_size").integer(1, kMostWidth);
  spec.layers = config.at("num_hidden_layers").small_integer(1, kMostLayers);
  spec.vocab = config.at("vocab_size").integer(1, kMostVocab);
  spec.max_positions = config.at("max_position_embeddings").integer(1, kMostPositions);
  spec.tied_embeddings = flag_or(config, "tie_word_embeddings", false);
  return spec;
}

AttentionSpec read_grouped_query(const Json& config, std::int64_t hidden, int head_dim) {
  AttentionSpec attention;
  const Json heads = config.at("num_attention_heads");
  attention.heads = heads.small_integer(1, kMostHeads);
  attention.kv_heads = attention.heads;
  if (const auto kv = config.find("num_key_value_heads")) {
    attention.kv_heads = kv->small_integer(1, attention.heads);
    if (attention.heads % attention.kv_heads != 0) {
      kv->refuse(fmt::format("a divisor of num_attention_heads {}", attention.heads));
    }
  }
  if (const auto given = config.find("head_dim")) {
    attention.head_dim = given->small_integer(1, kMostHeadDim);
  } else if (head_dim > 0) {
    attention.head_dim = head_dim;
  } else {
    if (hidden % attention.heads != 0) {
      heads.refuse(fmt::format("a divisor of hidden_size {} where head_dim is absent", hidden));
    }
    attention.head_dim = static_cast<int>(hidden / attention.heads);
  }
  attention.v_head_dim = attention.head_dim;
  return attention;
}

void read_windows(const Json& config, std::string_view key, std::string_view local,
                  const std::vector<bool>& by_rule, ModelSpec& spec) {
  const auto window = config.find(key);
  if (!window) return;
  std::vector<bool> is_local = by_rule;
  if (const auto types = config.find("layer_types")) {
    if (types->size() != by_rule.size())
      types->refuse(fmt::format("one type for each of the {} layers", by_rule.size()));
    for (std::size_t i = 0; i < is_local.size(); ++i) {
      const Json type = types->at(i);
      is_local[i] = type.text() == local;
      if (!is_local[i] && type.text() != "full_attention")
        type.refuse(fmt::format("{} or full_attention", local));
    }
  }
  if (std::find(is_local.begin(), is_local.end(), true) == is_local.end()) return;
  spec.attention.window = window->integer(1, kMostPositions);
  spec.layer_is_local = is_local;
}

void read_late_windows(const Json& config, ModelSpec& spec) {
  if (!flag_or(config, "use_sliding_window", false)) return;
  constexpr int kFirst = 28;  // Qwen2Config's default
  const auto key = config.find("max_window_layers");
  const int first = key ? key->small_integer(0, kMostLayers) : kFirst;
  std::vector<bool> late;
  for (int i = 0; i < spec.layers; ++i) late.push_back(i >= first);
  read_windows(config, "sliding_window", "sliding_attention", late, spec);
}

int read_top_k(const Json& config, int experts) {
  const Json top_k = config.at("num_experts_per_tok");
  const int k = top_k.small_integer(1, kMostExperts);
  if (k > experts) top_k.refuse(fmt::format("at most the {} experts", experts));
  return k;
}

}  // namespace steploom
