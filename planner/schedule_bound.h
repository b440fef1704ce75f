// A time that no order of slots can beat, for given times of the stages and memory limits.
//
// For a rank, with its load Σ (F + B + W), h the least time before its first slot, and over its
// seats: r from the end of F to the start of B of the same micro-batch (all later stages, forward
// and backward), t from the end of B to that of stage 0's W:
//
//   path       all of F and B of one micro-batch, and W of stage 0
//   load       h + load;  h + Σ (F + B) + t: whatever waits, B's come home before the end
//   fill       before its first B, at h + F + r at the earliest, a rank runs only forward passes,
//              and no more of them than fit its memory; all other work follows
//   drain      after its last F a rank runs only what it then holds, and that F's own way back
//              takes r + B + t
//   rounds     of the m micro-batches, each for F + r + B in memory, only c fit at a time, so the
//              last one starts after (m − 1)/c (rounded down) times that; what W needs alike
//   area       the same for all seats together: bytes times time held, over the limit
//
// The bound is the greatest of them over all ranks. Of one rank's own time, from its first start to
// its last end, the same without h and t. Passes beside others save at most `hidden` each.
#pragma once

#include "planner/schedule_times.h"

namespace steploom {

struct ScheduleBound {
  Picoseconds step = 0;
  Picoseconds rank_time = 0;
};

ScheduleBound schedule_bound(const ScheduleProblem& problem);

}  // namespace steploom
