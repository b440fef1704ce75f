// Which weight gradients fill which gap: a generalised assignment problem (Lancet, arXiv
// 2404.19429, section 4) whose gaps lie in a row.
//
// While a kernel waits for a collective the compute stream is idle: a gap with room for so much. An
// item may lie in any gap from the first after its operands are there to the last before they are
// overwritten. What is filled, Σ min(room, Σ time of the items there), is time saved; what an item
// has over the room is not lost, it only runs later than it could.
#pragma once

#include <vector>

#include "models/work.h"

namespace steploom {

struct GapItem {
  Picoseconds time = 0;
  int first = 0, last = -1;  // gaps that it may lie in; none where last < first
};

struct GapFilling {
  std::vector<int> gap;  // by item; -1: in none
  Picoseconds filled = 0;
  Picoseconds bound = 0;  // no filling has more
  bool optimal() const { return filled == bound; }
};

// Branch and bound over the gaps in order. A gap takes items until the next would go beyond its
// room, or one that goes beyond: taking what fits whole is never worse than leaving it. Of equal
// items those are taken that must go first. The bound cuts items at will
// and lets none be overwritten. After so many tries the best found is returned.
GapFilling fill_gaps(const std::vector<Picoseconds>& room, const std::vector<GapItem>& items);

// Lancet's algorithm 1: gap after gap takes the item whose time is nearest to the room that is
// left, until none is left or there is no more item. `may(item, gap)` says which.
template <class May>
std::vector<int> best_fit(const std::vector<Picoseconds>& room,
                          const std::vector<Picoseconds>& times, const May& may) {
  std::vector<int> gap(times.size(), -1);
  for (std::size_t j = 0; j < room.size(); ++j) {
    Picoseconds left = room[j];
    while (left > 0) {
      std::size_t best = times.size();
      const auto misfit = [&](std::size_t i) {
        return left > times[i] ? left - times[i] : times[i] - left;
      };
      for (std::size_t i = 0; i < times.size(); ++i)
        if (gap[i] < 0 && may(i, j) && (best == times.size() || misfit(i) < misfit(best))) best = i;
      if (best == times.size()) break;
      gap[best] = static_cast<int>(j);
      left -= times[best];
    }
  }
  return gap;
}

}  // namespace steploom
