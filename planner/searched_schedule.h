// The scheduler's order for lowered stages: times and memory of its problem from block templates.
//
// A pass takes as long as its longest path alone on the device, its messages apart, or as long as
// the host takes to issue it; a message as long as its operator. Memory is what a forward pass
// leaves, what of it (and of what B makes) W needs, and the room that fixed memory and the passes'
// own temporary tensors leave of the device.
#pragma once

#include <vector>

#include "planner/schedule_search.h"
#include "planner/setting.h"
#include "sim/cost_cache.h"
#include "sim/program.h"

namespace steploom {

struct StageBlocks {
  const BlockTemplate* forward = nullptr;
  const BlockTemplate* data = nullptr;
  const BlockTemplate* weight = nullptr;
  Bytes room = 0;  // of the device, beside fixed memory
};

ScheduleProblem schedule_problem(const std::vector<StageBlocks>& stages,
                                 std::int64_t micro_batches);

struct TimedSchedule {
  Picoseconds step = 0;
  ScheduleSlots slots;
};

// What the scheduler finds, then the named schedules of stages in line that fit, whole backward
// passes as B and W, by their times. Where nothing fits ZB-H1 alone: the layout then has too little
// memory. One stage a rank.
std::vector<TimedSchedule> searched_schedules(const std::vector<StageBlocks>& stages,
                                              std::int64_t micro_batches);

// Of these the one that ends soonest when the layout is replayed with it: their times know nothing
// of clocks, of contention and of how few messages a runtime has under way.
ScheduleSlots soonest_schedule(const Setting& setting, const Layout& layout, CostCache& costs,
                               std::vector<TimedSchedule>&& orders);

}  // namespace steploom
