// How the gradients of a layout are computed and reduced, and whether passes are woven: choices that
// leave its place in the space as it is and need no less memory, and are looked at only where its
// bound survives.
//
// Passes as the schedule has them or, where rules allow it and with gradients as they are, woven
// (Layout::weave); not with overlap inside tensor parallelism, and only where the profile says what
// kernels and collectives cost each other.
//
// Weight gradients as autograd issues them or, where there is an all-to-all, placed by Lancet's
// greedy or by the solver (Layout::dw). With the last of these: the runtime's gradient buckets,
// or those of 10 M or 160 M elements at least (Layout::bucket); and where contention is known and
// there is an all-to-all, the runtime's behind the all-to-alls (Layout::a2a_first), whole or in
// parts of 30 MB, Lina's figure (Layout::grad_micro). Without contention the latter never help:
// parts start when the whole is there. Under routing that is drawn, gradients are reduced as the
// runtime does.
#pragma once

#include <vector>

#include "models/layout.h"
#include "planner/setting.h"
#include "sim/program.h"

namespace steploom {

struct GradientChoices {
  Layout placed;                // its weight gradients, or woven; reduced as the runtime does
  std::vector<Layout> reduced;  // the same, gradients reduced in other ways
};

// The first is the layout as it is. Only that where the layout says itself how, or the runtime
// cannot. Those after it have bounds of their own.
std::vector<GradientChoices> gradient_choices(const Setting& setting, const Layout& layout);

// Do its collectives join ranks that hold the same parameters?
bool over_replicas(CommGroup group);

// False only if no way to reduce gradients takes less than `step`, with what `program`, as it was
// lowered, does else: with collectives over replicas free its longest path does not.
bool may_beat_reduced(const Setting& setting, Program program, Picoseconds step);

}  // namespace steploom
