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

}  // namespace steploom
