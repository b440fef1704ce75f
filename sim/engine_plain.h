// Replay without contention: nothing depends on the order in which events are treated.
//
// Without SMs to wait for and rates to share, the times are the least solution of max-plus
// equations, so the engine needs no queue of events: it visits a device, starts every stream's head
// whose predecessors have ended, again and again until none can go on, and visits the devices that
// a rendezvous woke. Exact for every sound Program, and the fallback of relax.
#pragma once

#include "sim/engine.h"
#include "sim/flat_program.h"

namespace steploom {

// Fills start and end; kUnknown where an operator cannot start or end. True if all ended.
bool replay_plain(const FlatProgram& flat, std::vector<Picoseconds>& start,
                  std::vector<Picoseconds>& end);

std::size_t plain_state_bytes(const FlatProgram& flat);  // start and end included

}  // namespace steploom
