// Expert layers under power-law routing: how wrong the model of uneven grouped products is.
//
// A table's row is the slowest rank of a layer. Rows are dealt into two halves by a hash of what
// was asked (fit_uneven.cpp): one may be fitted to, the other is only ever predicted. Everything
// but kUnevenOctaves comes from the balanced layers, so that one number is all that is fitted.
#pragma once

#include "profiler/fit_table.h"
#include "sim/profile.h"

namespace steploom {

struct UnevenFit {
  double octaves = 0;  // the median over the fitted half of log2(measured / predicted without)
  LeaveOut kept;       // the other half, with kUnevenOctaves
  LeaveOut fell_back;  // the other half, layers that fell back on a slow kernel too
};

// The profile must have its grouped surface. Layers whose balanced rows ran beyond kFellBack times
// their base (fit_grouped.h) are left out of the first two, where the table has balanced rows.
UnevenFit fit_uneven(const Profile& profile, const MeasuredTable& table);

}  // namespace steploom
