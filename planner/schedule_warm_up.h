// 1F1B's order with more forward passes before the first B, as memory and time allow: between
// ZB-H1, which keeps 1F1B's activations, and ZB-H2, which leaves no rank idle there.
//
// Every rank runs forward passes until its first B can arrive, as many as fit its memory and fewer
// than the rank before it; then one B and one forward pass in turn. W's are laid into it
// (schedule_weights.h). As zero-bubble's heuristic begins (arXiv 2401.10241, section 3.1).
#pragma once

#include "planner/schedule_times.h"

namespace steploom {

// Stages in line, one a rank. `past`: the last forward pass may end after the first B has arrived.
// How many forward passes each rank runs before its first B.
std::vector<std::int32_t> warm_up_counts(const ScheduleProblem& problem, bool past);

ScheduleSlots warm_up_order(const ScheduleProblem& problem, bool past);

}  // namespace steploom
