// Fits of kernels whose measurements each time one kernel: products, attention, collectives.
//
// Each is a physical base and a Grid: a point is (place on the grid, base, measured time). Times in
// microseconds.
#pragma once

#include <array>
#include <vector>

#include "profiler/fit_score.h"
#include "profiler/fit_surface.h"
#include "profiler/fit_table.h"
#include "sim/profile.h"

namespace steploom {

struct Point {
  std::array<double, kMostAxes> log2_point{};
  double base_us = 0;  // launch included
  double us = 0;       // measured
};

// The grid fitted to all points but those of fold `without` (none: to all).
Grid fit_points(const std::vector<Axis>& axes, const std::vector<Point>& points,
                const Smoothing& by, const Folds& folds = {}, int without = -1);

std::vector<double> predict_points(const Grid& grid, const std::vector<Point>& points);

// Each adds its surface to the profile and its leave-out errors to profile.leave_out. The profile's
// device must be set. The table may hold other GPUs' rows.
void fit_matmul(Profile& profile, const MeasuredTable& table);
// The table's rows of fp8 and fp8_block, over the profile's 16-bit products. Nothing where it has
// none. `peak_of`: the device's, by precision.
void fit_precisions(Profile& profile, const MeasuredTable& table,
                    const std::array<double, kPrecisions>& peak_of);
void fit_attention(Profile& profile, const MeasuredTable& table);
void fit_collectives(Profile& profile, const MeasuredTable& table);

}  // namespace steploom
