// The slots of a rank and which of its chunks' blocks each of them runs.
#pragma once

#include <vector>

#include "planner/pipeline_schedule.h"
#include "planner/rank_blocks.h"

namespace steploom {

struct PassSlot : SlotSpec {
  Pass pass = Pass::forward;
};

// Of each chunk, the first forward pass runs a block of its own, and so does the backward pass, in
// one part or two, whose slot of weight gradients is the last. `splits`: the schedule has backward
// passes in two parts, and one slot for both is Pass::whole.
std::vector<PassSlot> with_passes(const RankSlots& slots, int chunks, bool splits);

}  // namespace steploom
