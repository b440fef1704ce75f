// A self-test of steps on GPUs: leave out one wait between two streams, hold its producer back, and
// see whether verification notices.
//
// A wait is *needed* if nothing else puts its producer before the one that waits (vector clocks
// over streams and waits), the two share bytes that one of them writes, and it matters before the
// optimizer: verification reads the gradients, and reads them when the step has ended, so what goes
// wrong in the optimizer alone does not show in them. Waits that are flow control (a buffer that is
// used again) are left out too: an arena may be right without them by luck.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "profiler/bind.h"

namespace steploom {

struct CrossEdge {
  int rank = 0;
  std::uint32_t from = 0, to = 0;  // places in Execution::calls: producer, and what waits for it
  bool operator==(const CrossEdge&) const = default;
};

// In issue order.
std::vector<CrossEdge> needed_edges(const Program& program, const Execution& execution);

// `count` different ones over all ranks, drawn with the seed; fewer where there are not so many.
std::vector<CrossEdge> draw_edges(const BindInput& input, int count, std::uint64_t seed);

// Takes the wait out of its rank's Execution.
void drop_edge(Execution& execution, const CrossEdge& edge);

// "gpu0 · F 3 · layer 1 fc1 before gpu0 · F 3 · tp reduce_scatter"
std::string describe(const Program& program, const Execution& execution, const CrossEdge& edge);

}  // namespace steploom
