// The step of one asked layout, replayed, as a Timeline that knows what it is of.
#pragma once

#include "planner/lower.h"
#include "sim/engine.h"
#include "sim/timeline.h"
#include "tools/question.h"

namespace steploom {

// Fills in what a Timeline of this replay cannot know by itself.
TimelineOrigin origin_of(const Asked& asked, TimelineOrigin origin);

struct ReplayedStep {
  Lowered lowered;  // its Program at its clocks, and checked
  Timeline timeline;
};

// Operators of all ranks that an export holds in memory.
inline constexpr std::int64_t kMostExported = 20'000'000;

// Of several draws of the routing, the one that has the quantile. Throws Error if a rank-by-rank
// step has more operators than kMostExported.
ReplayedStep replay_step(const Asked& asked, Folding folding);

}  // namespace steploom
