// Weight gradients beside the backward all-to-alls (Layout::dw).
//
// Nothing waits for a weight gradient but its reduction, so it may run while the compute stream
// waits for a collective. Lancet (Jiang et al., arXiv 2404.19429, section 4) moves them into the
// all-to-alls of the backward pass.
//
// `lancet` is the paper's algorithm: a weight gradient may lie beside an all-to-all if no path
// leads from the one to the other (and, as kernels run in issue order, if its operands are made
// before the all-to-all is issued); for each all-to-all in order the one whose time is nearest to
// what is left of it is taken, and issued right after it. An all-to-all in parts counts with all of
// them.
//
// `solved` looks at what the compute stream really waits: its gaps where the weight gradients are
// taken out, other kernels beside a collective not counted as idle, whichever collective it is.
// fill_gaps() fills them, once with every weight gradient free to wait as long as it likes, then
// for fewer gaps, which costs time in the middle but reduces gradients earlier and frees
// activations sooner; what is left runs where it was, or at the end. Small blocks are improved one
// weight gradient at a time. Of these orders, the old one and Lancet's, that is taken which ends
// the block first, in the last backward pass of a step with its reductions; of equal ones that
// which lets the gradient leave for the stage before first, then that which holds the least memory.
// Orders that hold more than the device has room for are left out, unless all do. No order ends
// before PlacedWeights::bound.
//
// SMs and links are left to the replay: a weight gradient beside a collective slows it.
#pragma once

#include "planner/backward_order.h"
#include "planner/pass_context.h"

namespace steploom {

struct PlacedWeights {
  std::vector<OpId> order;
  Picoseconds before = 0;  // how long the block takes as it was
  Picoseconds time = 0;    // as it is
  Picoseconds bound = 0;   // no order takes less
  Bytes peak = 0;
};

PlacedWeights place_weights(const OpGraph& graph, const TimedGraph& times,
                            const std::vector<Tensor>& tensors, WeightPlacement how, Bytes room);

// The pass, over one of a chunk's backward graphs.
OpGraph place_weight_gradients(const OpGraph& backward, const std::vector<Tensor>& tensors,
                               const PassContext& context);

}  // namespace steploom
