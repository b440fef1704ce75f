// Weight gradients as tensors of their own, which kernels add to the accumulators: passes over a
// backward graph, for runtimes whose products do not add (Runtime::adds_gradients).
#pragma once

#include "models/emitter.h"

namespace steploom {

// Every product that makes a weight gradient becomes fresh (Work::fresh).
OpGraph with_fresh_gradients(const OpGraph& backward);

// After it: a kernel adds each to the sum of the micro-batches before. PyTorch takes the first
// micro-batch's as the sum; here all are added.
OpGraph with_gradient_sums(const BuildContext& c, const OpGraph& backward);

}  // namespace steploom
