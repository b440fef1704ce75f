// Two Timelines as one, for a trace that shows both: the devices of A, then those of B, each with
// its Timeline's name before its own; both begin at 0. Streams of the same name are one.
#pragma once

#include "sim/timeline.h"

namespace steploom {

Timeline side_by_side(const Timeline& a, const std::string& name_a, const Timeline& b,
                      const std::string& name_b);

}  // namespace steploom
