// One operator's time in a Timeline, cut into the parts that step_difference.h names.
//
//     reason()        ... waits for stream and dependencies ... before
//     before          ... launch_gap ...                        ready
//     ready           ... admission, start_delay ...            start
//     start           ... peer ...                              joined
//     joined          ... run ...                               end
//
// The parts of one operator tile [before, end].
#pragma once

#include "sim/timeline_index.h"

namespace steploom {

// What may be used of an operator: what is known of it in both Timelines.
struct KnownTimes {
  bool issued = false;
  bool joined = false;
  bool waits = false;
};

struct OperatorParts {
  Picoseconds before = 0;  // a moment: all that it depends on had finished
  Picoseconds launch_gap = 0;
  Picoseconds admission = 0;
  Picoseconds start_delay = 0;
  Picoseconds peer = 0;
  Picoseconds run = 0;
  bool beside = false;              // another stream of its device was busy while it ran
  std::uint32_t reason = kNoEvent;  // what finished last before `before`; kNoEvent: step's start
};

OperatorParts parts_of(const TimelineIndex& index, std::uint32_t event, const KnownTimes& known);

}  // namespace steploom
