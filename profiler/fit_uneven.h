// Expert layers under power-law routing: how wrong the model of uneven grouped products is.
//
// A table's row is the slowest rank of a layer. Rows are dealt into two halves by a hash of what
// was asked (fit_uneven.cpp): one may be fitted to, the other is only ever predicted. Everything
// but kUnevenOctaves comes from the balanced layers, so that one number is all that is fitted; a
// GPU whose table has no balanced layers has a surface taken over from another, moved to what the
// fitted half says at each number of rows an expert.
#pragma once

#include <utility>
#include <vector>

#include "profiler/fit_table.h"
#include "sim/profile.h"

namespace steploom {

struct UnevenFit {
  double octaves = 0;  // the median over the fitted half of log2(measured / predicted without)
  // By layer of the fitted half: log2 of the rows an expert on the mean, and log2(measured /
  // predicted with kUnevenOctaves).
  std::vector<std::pair<double, double>> residuals;
  LeaveOut kept;       // the other half, with kUnevenOctaves
  LeaveOut fell_back;  // the other half, layers that fell back on a slow kernel too
};

// The profile must have its grouped surface. Layers whose balanced rows ran beyond kFellBack times
// their base (fit_grouped.h) are left out of the first two, where the table has balanced rows.
UnevenFit fit_uneven(const Profile& profile, const MeasuredTable& table);

// Moves a surface that was taken over: at every knot of rows an expert by the median residual of
// the fitted half's layers within an octave of it, again until that moves little, for a layer lies
// between two knots. Returns what is then fitted.
UnevenFit move_by_rows(Profile& profile, const MeasuredTable& table);

}  // namespace steploom
