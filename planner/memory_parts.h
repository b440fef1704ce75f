// Where a rank's memory goes, part by part and by how the layout could cut it.
//
// Static parts follow from the stage's parameters; activations are the peak of the replayed balance
// over them. Bytes on one rank.
#pragma once

#include <span>

#include "models/chunk_builder.h"
#include "planner/setting.h"

namespace steploom {

struct MemoryParts {
  Bytes parameters = 0;   // as stored in the workload's precision, 8-bit copies with them
  Bytes gradients = 0;    // accumulated, runtime.grad_bytes each
  Bytes optimizer = 0;    // master and moments (models/optimizer.h), over dp·cp with ZeRO-1
  Bytes activations = 0;  // peak of everything that lives between a write and its last read
  Bytes buffers = 0;      // communicators, and what Layout::tp_overlap and DeepEP register
  Bytes workspace = 0;    // libraries and allocator

  Bytes host = 0;  // in the host's memory, no part of the total: Layout::offload

  // parameters + gradients + optimizer again, by bucket.
  Bytes sharded = 0;     // tensor-sharded
  Bytes replicated = 0;  // on every tensor-parallel rank
  Bytes experts = 0;     // routed experts

  Bytes fixed() const { return parameters + gradients + optimizer + buffers + workspace; }
  Bytes total() const { return fixed() + activations; }
};

// A communicator of the rank, as the executor makes it.
struct CommunicatorUse {
  GroupShape shape;
  int ctas = 0;           // the most that its operators take; 0: it has none
  bool rings = false;     // all-reduces, all-gathers or reduce-scatters
  bool messages = false;  // all-to-alls, sends or receives
};

// Device memory of the rank's communicators: what NCCL was measured to take over the cluster's
// fabric (CommunicatorMemory in sim/profile_fabric.h); where it was not, or between nodes, the
// runtime's figure for each. Nothing without communicators.
Bytes communicator_memory(const Setting& setting, std::span<const CommunicatorUse> uses);

// All but activations, of a rank with these parameters.
MemoryParts fixed_memory(const Setting& setting, const Layout& layout, const StageParameters& held,
                         std::span<const CommunicatorUse> communicators);

// What a forward pass of the chunk leaves for its backward pass under balanced routing; `routed`:
// with what grows with the rows of its experts.
Bytes saved_bytes(const Chunk& chunk, bool routed = true);

}  // namespace steploom
