// The backward pass as two blocks: data gradients (B) and weight gradients (W).
//
// Messages between pipeline stages can be taken out of a pass too, for runtimes that issue them
// beside the passes.
//
// Schedules that delay weight gradients (zero bubble, Lancet's) want them apart. W operators are
// those of phase weight_grad: products, the gathers of their inputs, gradient buckets. No B
// operator waits for one, so the two blocks can be run in the order B, W; edges from B to W become
// tensors that B leaves behind.
#pragma once

#include "models/op_graph.h"

namespace steploom {

struct BackwardBlocks {
  OpGraph data;    // B
  OpGraph weight;  // W
};

BackwardBlocks split_backward(const OpGraph& backward);

struct PassAndMessages {
  OpGraph pass;
  OpGraph receive, send;  // an operator each, or none; both on one stream
};

PassAndMessages without_messages(const OpGraph& pass);

}  // namespace steploom
