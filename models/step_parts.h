// What is communicated over the replicas of parameters, unit by unit.
//
// A unit is a layer, the embedding (-1), the head (model.layers) or a multi-token-prediction module
// (beyond it): what Megatron-Core's buckets are filled with and what FSDP shards and gathers whole.
#pragma once

#include <string>
#include <vector>

#include "models/emitter.h"

namespace steploom {

struct Unit {
  int layer = 0;
  std::int64_t dense = 0;  // parameters on one rank, before any sharding
  std::int64_t experts = 0;
  TensorId dense_gradient = kNoTensor;
  TensorId expert_gradient = kNoTensor;
};
// In the order in which the forward pass meets them.
std::vector<Unit> units(const BuildContext& c, const StageSpan& stage, const Chunk& chunk);

// One data-parallel family: dense parameters over dp·cp, or experts over expert_dp; only those of
// several ranks.
struct Family {
  std::int64_t Unit::*size;
  TensorId Unit::*gradient;
  CommGroup group;  // of the ranks that share one copy
  CommGroup outer;  // between copies
  StreamKind stream;
  int ranks;  // of group; 1: every copy has all, only the outer group communicates
  const char* name;
};
std::vector<Family> families(const Layout& l);

OpNode collective_node(std::string name, OpKind kind, Phase phase, CommGroup group,
                       StreamKind stream, Bytes bytes);
// The all-reduce of shards between copies that follows a reduce-scatter.
OpNode between_copies(const OpNode& scatter, const Family& f);

// The first or last operator of a layer on the compute stream; -1: none.
std::int64_t position(const OpGraph& g, int layer, bool last);

// ZeRO-2 and 3 (sharded_parameters.cpp): both backward passes with each unit's gradients
// reduce-scattered as soon as they are there, the last one's shards all-reduced between copies. The
// gradients in the chunk's table become tensors of the micro-batch, and chunk.gradients names their
// shards. With pp > 1 the last backward pass alone, at its end; gradients stay as they are.
void shard_gradients(const BuildContext& c, const StageSpan& stage, Chunk& chunk);
// ZeRO-3, before it: all passes with each unit's parameters gathered before its first use; with
// pp > 1 and reshard=0 the first forward pass alone.
void gather_parameters(const BuildContext& c, const StageSpan& stage, Chunk& chunk);

}  // namespace steploom
