// The longest path through a Program: the second rung of the costing ladder.
//
// One sweep over flat arrays, without a heap and without contention. Equal to replay() with no
// contention tables, and never above replay() with them (tables only slow down). With what links
// allow (link_load.h) it is nearer to the latter, and still never above it.
#pragma once

#include <vector>

#include "sim/program.h"

namespace steploom {

struct Relaxation {
  Picoseconds makespan = 0;
  std::vector<Picoseconds> end;  // by operator id
};

// Throws Error on a deadlock, as replay() does.
Relaxation relax(const Program& program);

// Bytes of dynamic state per operator: its end, and what rendezvous, streams and devices take.
std::size_t relax_bytes_per_op(const Program& program);

// The makespan alone, keeping no per-operator result beyond what the sweep needs.
// `links_shared`: as in replays with contention.
Picoseconds relaxed_makespan(const Program& program, bool links_shared = false);

}  // namespace steploom
