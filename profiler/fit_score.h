// Leave-out errors: whole points predicted from a fit that has not seen them.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "sim/profile.h"

namespace steploom {

// Which fold each point is left out with; points of fold −1 are never left out.
using Folds = std::vector<int>;

// Ten folds by a fixed scattering of the points' numbers, so that neighbours in a table fall into
// different folds.
Folds scattered_folds(std::size_t points);

// One fold for every value, so that a whole value is left out at a time; the least and the greatest
// value are never left out.
Folds folds_by_value(const std::vector<double>& value_of_point);

// For every fold: `predict(fold)` fits without that fold's points and returns the predictions of
// all points (only those of the fold are read). The result is one prediction a point, 0 where it
// is never left out.
std::vector<double> leave_out(const Folds& folds,
                              const std::function<std::vector<double>(int fold)>& predict);

// |predicted/measured − 1| of the points where `counts` is true (all if empty).
LeaveOut score(std::string what, const std::vector<double>& measured,
               const std::vector<double>& predicted, const std::vector<bool>& counts = {});

}  // namespace steploom
