// Which event of one Timeline is which of another: so that they can be compared one by one.
//
// Two Timelines are of the same Program if they have the same devices' slots (block, micro-batch,
// kind) in the same order, and in every slot, on every stream, operators of the same names and
// kinds in the same order. Streams go by name. Devices go by position: a Timeline whose devices
// stand for several ranks (a folded one) is not that of the ranks one by one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/timeline.h"

namespace steploom {

struct TimelineMatch {
  std::vector<std::uint32_t> b_of_a;  // by event of A; empty unless of the same Program
  std::string why_not;                // the first thing that differs; empty if nothing does
  bool same() const { return why_not.empty(); }
};

TimelineMatch match_timelines(const Timeline& a, const Timeline& b);

}  // namespace steploom
