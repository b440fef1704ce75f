// Along which axis each tensor of a range of forward operators can be cut: Lancet's constraint
// problem (arXiv 2404.19429, section 5.1).
//
// Every operator allows some combinations of axes for what it reads and writes; a tensor keeps one
// axis within a range. Tokens are cut as a batch. The rows that they send to the experts then are
// cut *irregularly*: a part's are as many as its tokens chose, and places taken by the parts before
// count, so that the routing is that of the whole. Rows whose routing is done can also be cut by
// capacity, an equal share of every expert's places to each part; then neither the gate nor the sum
// of a token's rows can be in the range, for a part holds no token whole.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/op_graph.h"

namespace steploom {

enum class PartAxis : std::uint8_t { batch, capacity, irregular };
std::string_view name_of(PartAxis a);  // "irregular"

struct PartRules {
  int parts = 2;
  bool partial_gate = true;    // Gate decides_on_parts
  std::int64_t sequences = 1;  // of the micro-batch; attention is cut between them
  bool sequence_parallel = false;
};

struct PartAxes {
  std::map<TensorId, PartAxis> axis;  // of every tensor that a cut operator touches
  std::string refusal;                // why there are none: names the operator
  bool found() const { return refusal.empty(); }
};

// Runs once whatever the parts: no operand of a micro-batch (parameters of ZeRO gathered).
bool runs_whole(CommGroup group);
inline bool runs_whole(const OpNode& node) {
  return runs_whole(node.group);
}

// Of the operators [first, last) of `forward`.
PartAxes infer_axes(const OpGraph& forward, OpId first, OpId last, const PartRules& rules);

}  // namespace steploom
