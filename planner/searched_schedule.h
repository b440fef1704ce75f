// The scheduler's order for lowered stages: times and memory of its problem from block templates.
//
// A pass takes as long as its longest path alone on the device, its messages apart, or as long as
// the host takes to issue it; a message as long as its operator. Memory is what a forward pass
// leaves, what of it (and of what B makes) W needs, and the room that fixed memory and the passes'
// own temporary tensors leave of the device.
#pragma once

#include "planner/schedule_search.h"
#include "sim/program.h"

namespace steploom {

struct StageBlocks {
  const BlockTemplate* forward = nullptr;
  const BlockTemplate* data = nullptr;
  const BlockTemplate* weight = nullptr;
};
struct RankOfStages {
  std::vector<StageBlocks> stages;  // by chunk
  Bytes room = 0;                   // of the device, beside fixed memory
};

ScheduleProblem schedule_problem(Placement placement, const std::vector<RankOfStages>& ranks,
                                 std::int64_t micro_batches);

// One stage a rank, or two in a V. Where nothing fits, the schedule that holds little: ZB-H1, or
// V-Min in a V; the layout then has too little memory. In a V the first rank's last weight
// gradients are those of its first stage: tied embeddings are complete then.
ScheduleSlots searched_schedule(Placement placement, const std::vector<RankOfStages>& ranks,
                                std::int64_t micro_batches);

}  // namespace steploom
