// What a pipeline rank runs and leaves before any of its backward passes: no schedule of the layout
// holds less at its peak, and woven passes (Layout::weave) are not woven before.
#pragma once

#include <cstdint>
#include <vector>

#include "models/layout.h"

namespace steploom {

// `saved`: what a micro-batch leaves on each of the rank's chunks, bytes; `m` micro-batches.
Bytes saved_before_backward(const Layout& layout, int rank, std::int64_t m,
                            const std::vector<Bytes>& saved);

// Forward passes of 1F1B on a chunk that run before any pair, where passes are woven; as many
// backward passes run after all pairs. Of groups that are not whole, none are counted.
std::int64_t passes_alone(const Layout& layout, int rank, int chunk, std::int64_t m);

}  // namespace steploom
