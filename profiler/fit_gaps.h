// From chains of kernels and collectives to a profile's gaps, and from what NCCL took of a device's
// memory to a fabric's.
//
// A gap is what a link of a chain takes beyond the durations that the profile would give its parts:
// of a kernel its time in a CUDA graph of its like, of a collective that in a stream of its like,
// or its own where that is below kHostBoundUs (duration_us()). So durations and gaps of a chain add
// up to its time by construction, and nothing is counted twice. A link of a kernel and a collective
// has two latencies; CUPTI's intervals of the chain say how they share what is left, and how much
// longer the kernel takes beside a large collective, which empties its cache: that is no gap.
// Medians over kernels, collectives and sizes.
//
// Memory grows in proportion to CTAs: a line of least squares through the communicators that were
// made after the first two, which are alike, so that what the first took beyond the second is what
// is spent once.
#pragma once

#include <vector>

#include "profiler/gap_points.h"
#include "sim/profile.h"

namespace steploom {

// Throws Error if the chains that it takes are not there.
Gaps gaps_of(const GapPoints& points);
CommunicatorMemory memory_of(const GapPoints& points);

// Gaps of the first file that has chains; of every file, its fabric's memory, if the profile has
// the fabric. Throws Error if a file is of another device.
void add_gaps(Profile& profile, const std::vector<GapPoints>& files);

}  // namespace steploom
