// How many parameters a model has, and where a parallel layout can cut them.
//
// Three buckets, as Megatron-Core keeps them: tensor-sharded (attention and dense matrices, shared
// experts, embeddings), replicated (norms, routers, position tables, MLA's down projections, biases
// of row-parallel products) and routed experts. Formulas: docs/how-it-works.md, "Parameters".
// Counts are exact integers.
#pragma once

#include <cstdint>

#include "models/model_spec.h"

namespace steploom {

struct ParameterBuckets {
  std::int64_t sharded = 0;     // divided by tensor parallelism
  std::int64_t replicated = 0;  // on every tensor-parallel rank
  std::int64_t experts = 0;     // routed experts, divided by expert (tensor) parallelism

  std::int64_t total() const { return sharded + replicated + experts; }
  ParameterBuckets& operator+=(const ParameterBuckets& o);
};

ParameterBuckets attention_parameters(const ModelSpec& m);  // one layer; not its two norms
// Attention, FFN or MoE, two norms. A layer beyond m.layers is a multi-token-prediction module: its
// projection and three more norms with it.
ParameterBuckets layer_parameters(const ModelSpec& m, int layer);
ParameterBuckets embedding_parameters(const ModelSpec& m);  // word (and position) table, projection
ParameterBuckets head_parameters(const ModelSpec& m);  // final norm, projection; V·h unless tied

struct ParameterCount {
  std::int64_t total = 0;   // all parameters, tied weights once, MTP modules included
  std::int64_t active = 0;  // those that one token meets: top_k of the experts
};
ParameterCount count_parameters(const ModelSpec& m);

// The vocabulary as Megatron-Core keeps it: rounded up to a multiple of 128 times tp.
std::int64_t padded_vocab(std::int64_t vocab, int tp);

}  // namespace steploom
