// The bytes by which an operator is known, whatever a runtime's graph counts for it.
//
// Runtimes keep different things of a router, a loss and an unpermute for the backward pass: the
// graph of runtime `steploom` counts what its kernels move, that of `megatron-core` has fp32 scores
// written and read and the weights' gradients left out. The operator and the kernel that was
// measured for it are the same, so exact points (profile_points.h) and corrections (correction.h)
// go by m, n and k there: by these bytes, which are megatron-core's. All other operators are known
// by their own.
#pragma once

#include "models/work.h"

namespace steploom {

Bytes operator_bytes(const Work& work);

}  // namespace steploom
