// A schedule laid out in time: whenever a rank is free it takes the best of what it can run.
//
// Backward passes come before forward passes, and both before weight gradients, which fill the time
// until the next known input, free memory when a forward pass lacks it, and follow at the end. A
// forward pass starts only if the rank can then still hold one micro-batch on each of its later
// chunks, so the oldest micro-batch can always go on: there is no deadlock where a rank holds
// one micro-batch on every chunk.
#pragma once

#include <optional>

#include "planner/schedule_weights.h"

namespace steploom {

struct GreedyRule {
  // Of several chunks, forward passes of the one nearer to the end come first; so do B's, or last.
  bool late_backward_first = true;
  bool alternate = false;  // after a backward pass, a forward pass comes first
  // A rank stays idle so long for a backward pass that is known to come, rather than delay it.
  Picoseconds patience = 0;
  // Micro-batch i starts no sooner than (i − at_once)·pace: with little memory, ranks that fill it
  // with early micro-batches would wait for their way back.
  Picoseconds pace = 0;
  int at_once = 0;
  IdleRule idle{};
};

// Placements with one copy of the model. nullopt: a rank cannot hold a micro-batch on every chunk.
// `state` holds the times of the result.
std::optional<ScheduleSlots> greedy_schedule(const GreedyRule& rule, ScheduleState& state);

}  // namespace steploom
