// Memory over time, from the starts and ends of a replay.
//
// A device's balance begins at its static bytes; an operator adds `alloc` when it starts and gives
// back `free` when it ends, both as they are in its slot (changed_in). At one instant frees come
// before allocations.
#pragma once

#include <vector>

#include "sim/engine.h"
#include "sim/flat_program.h"

namespace steploom {

// Fills peak_memory, and memory (by time, then device) if `record`.
void balance_memory(const FlatProgram& flat, bool record, Replay& replay);

}  // namespace steploom
