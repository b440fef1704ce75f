// Leave-out errors: whole points predicted from a fit that has not seen them.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "sim/profile.h"

namespace steploom {

inline constexpr int kFolds = 10;

// Which tenth a point is left out with: a fixed scattering of its number, so that neighbours in a
// table fall into different tenths.
int fold_of(std::size_t point);

// For every fold: `predict(fold)` fits without that fold's points and returns the predictions of
// all `points` (only those of the fold are read). The result is one prediction a point.
std::vector<double> leave_out(std::size_t points,
                              const std::function<std::vector<double>(int fold)>& predict);

// |predicted/measured − 1| of the points where `counts` is true (all if empty).
LeaveOut score(std::string what, const std::vector<double>& measured,
               const std::vector<double>& predicted, const std::vector<bool>& counts = {});

}  // namespace steploom
