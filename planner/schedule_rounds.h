// Schedules laid out in rounds. Stages in line: a wave of forward passes from the first rank to the
// last, then one of B's back. In a V: every rank one B, of chunk 0 where its input has been laid
// out, else of chunk 1, then one forward pass, of chunk 1 where its input has been laid out.
//
// In line the first round is the warm-up of schedule_warm_up.h and the first B's; in each later one
// a rank runs at most one forward pass and one B. Before them it runs W's, oldest first: those
// without which the memory limit would be passed; those that end before the input is there; and one
// that delays the pass, unless idling would leave the rank no longer idle than another has been so
// far: the longest rank decides. The first rank, without forward passes left, runs all its W's
// before the next B, for nobody waits for it. In a V ranks warm up with as many forward passes of
// chunk 0 as fit until the first micro-batch is back, then with both chunks in turn. After arXiv
// 2401.10241, sections 3.1 and 6.
#pragma once

#include <optional>

#include "planner/schedule_times.h"

namespace steploom {

struct RoundsRule {
  bool past = false;  // of the warm-up: its last forward pass may delay the first B
  // A forward pass is left for a later round where it would delay a B that the next rank could have
  // sent by then, unless the rank would have idled longest of all until it comes.
  bool yield = false;
  bool busy = false;  // W's rather than idle time, always
};

// nullopt: it does not fit the memory, or a B's turn comes before its forward pass. `state` holds
// the times of the result.
std::optional<ScheduleSlots> rounds_schedule(const RoundsRule& rule, ScheduleState& state);

struct VRoundsRule {
  bool busy_forward = false,
       busy_backward = false;  // W's rather than to idle longest of all, before
                               // F and B of chunk 1; always before B of 0
  // By rank: what it idled in an earlier trial. The longest of them may be idled by the others too.
  std::vector<Picoseconds> idled;
};

std::optional<ScheduleSlots> v_rounds_schedule(const VRoundsRule& rule, ScheduleState& state);

}  // namespace steploom
