// The slots of a rank and which of its chunks' blocks each of them runs.
#pragma once

#include <vector>

#include "planner/pipeline_schedule.h"
#include "planner/rank_blocks.h"

namespace steploom {

struct PassSlot : SlotSpec {
  Pass pass = Pass::forward;
};

// Of each chunk, the first forward pass and the last backward pass of each kind that the list has
// run blocks of their own.
std::vector<PassSlot> with_passes(const RankSlots& slots, int chunks);

}  // namespace steploom
