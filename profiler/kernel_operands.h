// Which memory a call reads and writes.
#pragma once

#include <vector>

#include "profiler/kernel_calls.h"

namespace steploom {

// Optional operands that are absent are left out; an accumulator is read and written.
struct Operands {
  std::vector<TensorRef> in, out;
  explicit Operands(const KernelCall& call);
};

// Do they share bytes that one of them writes, so that their order matters?
bool depends(const KernelCall& later, const KernelCall& earlier);

}  // namespace steploom
