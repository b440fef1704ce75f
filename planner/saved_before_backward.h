// What a pipeline rank's forward passes leave before any of its backward passes: no schedule of the
// layout holds less at its peak.
#pragma once

#include <cstdint>
#include <vector>

#include "models/layout.h"

namespace steploom {

// `saved`: what a micro-batch leaves on each of the rank's chunks, bytes; `m` micro-batches.
Bytes saved_before_backward(const Layout& layout, int rank, std::int64_t m,
                            const std::vector<Bytes>& saved);

}  // namespace steploom
