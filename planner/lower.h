// Lowering: from a setting and a layout to the Program that is replayed, exported and executed.
//
// Ranks get their stage and process groups (ranks.h); ranks that do the same work fold into one
// device (sim/fold.h); every class gets its stage's operator graphs, costed on its groups' shapes
// (block.h); slots follow the pipeline schedule, and slot edges join what streams do not.
//
// Under uneven routing every place in an expert-parallel group has durations of its own in every
// slot (routed_loads.h), and only ranks whose durations are all the same fold.
//
// Durations are as they were measured: where the profile knows the device's clock,
// replay_at_clock() of sim/step_clock.h, not replay(), gives the step and leaves the Program at its
// clocks.
#pragma once

#include <vector>

#include "models/layout.h"
#include "planner/memory_parts.h"
#include "planner/pipeline_schedule.h"
#include "planner/routed_loads.h"
#include "planner/setting.h"
#include "sim/cost_cache.h"
#include "sim/program.h"

namespace steploom {

struct Lowered {
  Program program;                  // finalized
  std::vector<MemoryParts> memory;  // by device; activations still 0
  std::vector<int> first_rank;      // by device: the lowest rank that it stands for
  RoutingSummary routing;           // under uneven routing
  ScheduleSlots slots;              // what each pipeline rank runs
};

enum class Folding { folded, unfolded };

// The layout must keep all layout rules. `costs` must belong to setting.costs. `order`: what the
// pipeline's ranks run instead of what the layout's schedule says; nullptr: that.
Lowered lower(const Setting& setting, const Layout& layout, CostCache& costs,
              Folding folding = Folding::folded, const ScheduleSlots* order = nullptr);

// The same for layouts of one mesh, one after another (rank_blocks.h).
class BlockCache;
Lowered lower(const Setting& setting, const Layout& layout, CostCache& costs, BlockCache& blocks);

}  // namespace steploom
