// What the config.json files of most families share: how a key is read, named and refused.
//
// Hub files carry dozens of keys that say nothing about shapes, so unknown keys are let through,
// but one that looks like a misspelling of a shape key that is missing is refused. Every number
// has a largest believable value, so that no later product of two or three of them overflows.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "models/json_reader.h"
#include "models/model_spec.h"

namespace steploom {

inline constexpr std::int64_t kMostWidth = std::int64_t{1} << 20;  // hidden, FFN, latent ranks
inline constexpr std::int64_t kMostVocab = std::int64_t{1} << 24;
inline constexpr std::int64_t kMostPositions = std::int64_t{1} << 30;
inline constexpr int kMostLayers = 4096;
inline constexpr int kMostHeads = 4096;
inline constexpr int kMostHeadDim = 16384;
inline constexpr int kMostExperts = 16384;

// Refuses a key that is in nobody's list but near a key of `shape_keys` that is missing.
void refuse_misspelt(const Json& config, std::span<const std::string_view> shape_keys);

// The first of several names for one thing that is there; refuses if none is.
Json either(const Json& config, std::initializer_list<std::string_view> names);

bool flag_or(const Json& config, std::string_view key, bool absent);

// hidden, layers, vocab, max_positions, tied_embeddings (false unless the file says so).
ModelSpec read_trunk(const Json& config);

// heads, kv_heads (absent: heads), head_dim (absent: `head_dim`, or if that is 0 hidden / heads).
AttentionSpec read_grouped_query(const Json& config, std::int64_t hidden, int head_dim = 0);

// Experts per token, which may not exceed the experts.
int read_top_k(const Json& config, int experts);

// attention.window from `key` and the layers in which it holds: those that "layer_types" names
// `local`, or `by_rule` where the file has no such list. A window that is null or in no layer:
// none.
void read_windows(const Json& config, std::string_view key, std::string_view local,
                  const std::vector<bool>& by_rule, ModelSpec& spec);

// The windows of qwen2 and its kin: with use_sliding_window, from max_window_layers on.
void read_late_windows(const Json& config, ModelSpec& spec);

}  // namespace steploom
