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

// Replaces profile.corrections and the leave-out rows of earlier corrections. A kind and phase with
// fewer than kLeastPoints points gets none. The cluster must be of the profile's device.
inline constexpr std::size_t kLeastPoints = 4;
void fit_corrections(Profile& profile, const Cluster& cluster,
                     const std::vector<MeasuredPoint>& points);

}  // namespace steploom
