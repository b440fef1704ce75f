// Where a rank's memory goes, part by part and by how the layout could cut it.
//
// Static parts follow from the stage's parameters; activations are the peak of the replayed balance
// over them. Bytes on one rank.
#pragma once

#include "models/chunk_builder.h"
#include "planner/setting.h"

namespace steploom {

struct MemoryParts {
  Bytes parameters = 0;   // in the workload's precision
  Bytes gradients = 0;    // accumulated, runtime.grad_bytes each
  Bytes optimizer = 0;    // fp32 master, two moments: 12 bytes each, over dp with ZeRO-1
  Bytes activations = 0;  // peak of everything that lives between a write and its last read
  Bytes buffers = 0;      // communicators
  Bytes workspace = 0;    // libraries and allocator

  // parameters + gradients + optimizer again, by bucket.
  Bytes sharded = 0;     // tensor-sharded
  Bytes replicated = 0;  // on every tensor-parallel rank
  Bytes experts = 0;     // routed experts

  Bytes fixed() const { return parameters + gradients + optimizer + buffers + workspace; }
  Bytes total() const { return fixed() + activations; }
};

// All but activations, of a rank with these parameters. `communicators`: how many it belongs to.
MemoryParts fixed_memory(const Setting& setting, const Layout& layout, const StageParameters& held,
                         int communicators);

}  // namespace steploom
