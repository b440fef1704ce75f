// Dropout, for runtimes that train with it: kernels of their own or inside a residual sum.
//
// A mask of one byte an element is kept for the backward pass. Where the runtime has no dropout
// nothing is emitted, the mask stays kNoTensor and gradients pass as they are. Rows lie in the
// sequence-parallel region.
#pragma once

#include "models/emitter.h"

namespace steploom {

inline constexpr Bytes kMaskBytes = 1;  // an element

// m rows of n.
TensorId dropout(Emitter& out, std::string_view name, std::int64_t m, std::int64_t n, TensorId x,
                 TensorId& mask);
TensorId dropout_backward(Emitter& out, std::string_view name, std::int64_t m, std::int64_t n,
                          TensorId dy, TensorId mask);

// x + dropout(branch), one kernel (Megatron's fused bias, dropout and add): shard rows of hidden.
TensorId add_branch(Emitter& out, std::string_view name, TensorId x, TensorId branch,
                    TensorId& mask);
// The branch's gradient from that of the sum.
TensorId branch_gradient(Emitter& out, std::string_view name, TensorId dy, TensorId mask);

}  // namespace steploom
