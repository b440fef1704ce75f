// How long a forward pass takes with ranges of it in parts, from below and without building it.
//
// Operators run in the order (stage, part) that pass_partition.h issues them in, each stream one
// after another, and wait for those parts of what they depend on that share tokens with theirs. The
// host, gaps, events' latencies, exchanges of sizes and collectives that run whole are left out,
// which only makes it shorter.
#pragma once

#include <functional>
#include <vector>

#include "planner/range_program.h"
#include "sim/program.h"

namespace steploom {

// Of operator `op` in one of so many parts.
using CutTime = std::function<Picoseconds(std::uint32_t op, int parts)>;

// From the start of the first kernel to the end of the last of a lowered forward pass. Ranges are
// in numbers of its operators, ascending and disjoint.
Picoseconds cut_time(const BlockTemplate& forward, const std::vector<CutRange>& ranges,
                     const CutTime& time);

}  // namespace steploom
