// Fitting corrections to measured points: what a hot card in training's shapes says beyond the
// surfaces (sim/correction.h).
//
// For every kind and phase that was measured, octaves = log2(measured / correction_base) is fitted
// on a coarse grid over the kind's axes, of attention for every width of heads by itself. Of a
// grouped product only the fastest provider of each shape counts, with even experts: that is what a
// runtime that measures would run. The leave-out errors are of whole durations, so they say how
// good profile and correction are together.
#pragma once

#include <vector>

#include "profiler/points.h"
#include "sim/cluster.h"
#include "sim/profile.h"

namespace steploom {

// A kind and phase with fewer than kLeastPoints points gets no correction; one that the profile has
// a correction of keeps it unless there are kReplacingPoints points; of attention this holds for
// every width of heads by itself, and all widths stay on the axes of the first fit. The leave-out
// rows of the classes that were fitted are replaced. The profile's exact points play no part. The
// cluster must be of the profile's device.
inline constexpr std::size_t kLeastPoints = 4;
inline constexpr std::size_t kReplacingPoints = 16;
void fit_corrections(Profile& profile, const Cluster& cluster,
                     const std::vector<MeasuredPoint>& points);

// Without corrections, their leave-out rows and what says where they were measured.
void clear_corrections(Profile& profile);

// How far corrections fitted to all points of a kind and phase but one are from that one; a row a
// kind and phase with at least kLeastPoints points.
std::vector<LeaveOut> leave_one_out(const Profile& profile, const Cluster& cluster,
                                    const std::vector<MeasuredPoint>& points);

}  // namespace steploom
