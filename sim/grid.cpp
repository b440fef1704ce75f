#include "sim/grid.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "models/error.h"
#include "sim/portable_math.h"

namespace steploom {

Axis make_axis(std::string name, std::vector<double> knots) {
  Axis axis{std::move(name), std::move(knots), {}};
  double before = 0;
  for (const double knot : axis.knots) {
    if (!(knot > before)) break;
    axis.log2_knots.push_back(portable_log2(knot));
    before = knot;
  }
  if (axis.knots.empty() || axis.log2_knots.size() != axis.knots.size()) {
    throw Error({"profile", "axis '" + axis.name + "'", "positive, increasing knots",
                 std::to_string(axis.knots.size()) + " that are not", ""});
  }
  return axis;
}

std::size_t size_of(const std::vector<Axis>& axes) {
  std::size_t size = 1;
  for (const Axis& axis : axes) size *= axis.knots.size();
  return size;
}

Corners corners_at(const std::vector<Axis>& axes, std::span<const double> log2_point) {
  assert(axes.size() == log2_point.size() && axes.size() <= kMostAxes);
  Corners corners;
  corners.count = 1;
  corners.weight[0] = 1;
  for (std::size_t a = 0; a < axes.size(); ++a) {
    const std::vector<double>& knots = axes[a].log2_knots;
    const double x = log2_point[a];
    std::size_t low = 0;
    while (low + 2 < knots.size() && x >= knots[low + 1]) ++low;
    double upper = 0;  // weight of the upper knot
    if (knots.size() > 1) {
      upper = (x - knots[low]) / (knots[low + 1] - knots[low]);
      upper = upper < 0 ? 0 : (upper > 1 ? 1 : upper);
    }
    const auto stride = static_cast<std::uint32_t>(knots.size());
    for (std::size_t c = 0; c < corners.count; ++c) {
      corners.index[c] = corners.index[c] * stride + static_cast<std::uint32_t>(low);
    }
    if (upper == 0) continue;
    for (std::size_t c = 0; c < corners.count; ++c) {
      corners.index[corners.count + c] = corners.index[c] + 1;
      corners.weight[corners.count + c] = corners.weight[c] * upper;
      corners.weight[c] *= 1 - upper;
    }
    corners.count *= 2;
  }
  return corners;
}

double octaves_outside(const std::vector<Axis>& axes, std::span<const double> log2_point) {
  double most = 0;
  for (std::size_t a = 0; a < axes.size(); ++a) {
    if (axes[a].knots.size() == 1) continue;
    const double below = axes[a].log2_knots.front() - log2_point[a];
    const double above = log2_point[a] - axes[a].log2_knots.back();
    most = std::max({most, below, above});
  }
  return most;
}

double octaves_at(const Grid& grid, std::span<const double> log2_point) {
  const Corners corners = corners_at(grid.axes, log2_point);
  double sum = 0;
  for (std::size_t c = 0; c < corners.count; ++c) {
    sum += corners.weight[c] * grid.values[corners.index[c]];
  }
  return sum / 1000;
}

}  // namespace steploom
