// Where every device of a Program repeats itself, micro-batch after micro-batch.
//
// In a pipeline's steady state a device's slots repeat with a *period* (1F1B: one forward and one
// backward slot): `period` slots on, the same block stands, its micro-batch a fixed number higher,
// with the same edges to the slots before it. A replay that comes to the same state a period later
// will come to it again and again while the slots repeat; so the engine may skip whole periods, and
// integer time makes "the same state" exact (engine_contended.h).
//
// Devices that neither meet nor share links while they repeat come to the same state each in its
// own time: stages of a pipeline without its messages, say, which meet once a step. So devices are
// taken in the smallest groups that have nothing to do with each other while they repeat.
//
// This file only looks at the Program; what the engine's state is, its parts say themselves.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/flat_program.h"

namespace steploom {

struct SteadySlots {
  std::uint32_t device = 0;
  std::uint32_t first = 0, last = 0;  // slots: [first, last − period) recur a period later
  std::uint32_t period = 0;           // slots
  std::uint32_t reach = 0;            // slots: the farthest back that an edge comes from
};

// A group of devices that all repeat, with as many micro-batches a period; every member of a
// communicator issues as many operators on it in that time.
struct SteadyState {
  std::vector<SteadySlots> devices;  // ascending
  struct Issued {
    std::uint32_t communicator = 0, operators = 0;  // of a member in a period
  };
  std::vector<Issued> issued;  // by communicator, those with any
};
std::vector<SteadyState> find_steady_states(const FlatProgram& flat);

// Whole periods that a replay skips on a device: everything there moves on by so much.
struct Skip {
  std::uint32_t slots = 0, ops = 0, segments = 0;
  Picoseconds time = 0;
};

}  // namespace steploom
