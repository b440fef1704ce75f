// Where every device of a Program repeats itself, micro-batch after micro-batch.
//
// In a pipeline's steady state a device's slots repeat with a *period* (1F1B: one forward and one
// backward slot): `period` slots on, the same block stands, its micro-batch a fixed number higher,
// with the same edges to the slots before it. A replay that comes to the same state a period later
// will come to it again and again while the slots repeat; so the engine may skip whole periods, and
// integer time makes "the same state" exact (engine_contended.h).
//
// This file only looks at the Program; what the engine's state is, its parts say themselves.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/flat_program.h"

namespace steploom {

struct SteadySlots {
  std::uint32_t first = 0, last = 0;  // slots: [first, last − period) recur a period later
  std::uint32_t period = 0;           // slots
  std::uint32_t reach = 0;            // slots: the farthest back that an edge comes from
};

// By device; empty unless every device repeats, all with as many micro-batches a period, and every
// member of a communicator issues as many operators on it in that time.
struct SteadyState {
  std::vector<SteadySlots> devices;
  std::vector<std::uint32_t> rendezvous;  // by communicator: how many of its own in a period
};
SteadyState find_steady_state(const FlatProgram& flat);

// Whole periods that a replay skips on a device: everything there moves on by so much.
struct Skip {
  std::uint32_t slots = 0, ops = 0, segments = 0;
  Picoseconds time = 0;
};

}  // namespace steploom
