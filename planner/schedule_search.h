// The scheduler: the best order of slots for given times of the stages, which may differ, and a
// memory limit for every rank; with a lower bound, so how far from the best it can be is known.
//
// Candidates are every named schedule of the placement and its order of forward passes and B's with
// the W's laid anew (schedule_weights.h), 1F1B with more or fewer forward passes before its first B
// (schedule_warm_up.h), schedules laid out in rounds (schedule_rounds.h), then in time with several
// rules (schedule_greedy.h); the best is improved by swapping slots on its critical path. So the
// result is never worse than a named schedule that fits the same memory. It ends as soon as it meets the bound. Effort is
// counted in moves, not in seconds: the same problem has the same answer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "planner/schedule_bound.h"

namespace steploom {

enum class ScheduleGoal : std::uint8_t {
  step,      // ends soonest after the first start
  rank_time  // the longest time of a rank from its own first start to its own last end
};

struct ScheduleEffort {
  ScheduleGoal goal = ScheduleGoal::step;
  // Swaps tried, and slots laid out anew for them: the lesser of the two ends the search.
  int moves = 40;
  std::int64_t slots = 400'000;
};

struct FoundSchedule {
  ScheduleSlots slots;
  Picoseconds step = 0, rank_time = 0, bubble = 0;  // as ScheduleTimes has them
  Picoseconds time = 0;                             // of these, the goal
  Picoseconds bound = 0;                            // no schedule of the placement takes less
  std::string from;                                 // what it grew from: "zb-h1", "greedy"
  int tried = 0;                                    // lists of slots gone through
};

// nullopt: no candidate fits the memory.
std::optional<FoundSchedule> search_schedule(const ScheduleProblem& problem,
                                             const ScheduleEffort& effort = {});

}  // namespace steploom
