#include "profiler/fit_surface.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

namespace steploom {
namespace {

using Point2 = std::array<double, 2>;

std::vector<Axis> axes() {
  return {make_axis("x", {1, 4, 16}), make_axis("y", {1, 8})};
}

Row row_at(const Point2& at, double octaves) {
  Row row;
  row.octaves = octaves;
  add_lookup(row, axes(), at, 1);
  return row;
}

// The truth is a Grid itself: with samples all over and hardly any penalty it is found again.
TEST(FitSurface, RecoversAGrid) {
  Grid truth{axes(), {0, 300, -500, 200, 700, -100}};
  std::vector<Row> rows;
  for (double x = 0; x <= 4; x += 0.25) {
    for (double y = 0; y <= 3; y += 0.25) {
      const Point2 at{x, y};
      rows.push_back(row_at(at, octaves_at(truth, at)));
    }
  }
  EXPECT_EQ(fit_grid(axes(), rows, {1e-9, 1e-9}).values, truth.values);
}

// A straight surface has no second differences: it survives any smoothing, and a crossing without
// a sample continues it.
TEST(FitSurface, ContinuesAStraightSurfaceWhereNothingWasMeasured) {
  std::vector<Row> rows;
  for (const double x : {0.0, 0.5, 1.0, 1.5, 2.0}) {
    for (const double y : {0.0, 3.0}) rows.push_back(row_at({x, y}, 0.1 * x + 0.2));
  }
  const Grid grid = fit_grid(axes(), rows, {10, 1e-9});
  EXPECT_NEAR(octaves_at(grid, Point2{4, 0}), 0.6, 0.002);
}

// Nothing measured at all: the base is right.
TEST(FitSurface, IsZeroWithoutMeasurements) {
  EXPECT_EQ(fit_grid(axes(), {}, {0.1, 1e-3}).values, std::vector<std::int32_t>(6, 0));
}

// One equation may look up two places, as a layer of two products does: 0.5·a + 0.5·b.
TEST(FitSurface, SolvesEquationsInTwoPlaces) {
  Row sum;
  add_lookup(sum, axes(), Point2{0, 0}, 0.5);
  add_lookup(sum, axes(), Point2{4, 3}, 0.5);
  sum.octaves = 1;
  Row one = row_at({0, 0}, 0.4);
  const Grid grid = fit_grid(axes(), {sum, one}, {0, 1e-9});
  EXPECT_NEAR(octaves_at(grid, Point2{4, 3}), 1.6, 0.002);
}

TEST(FitSurface, SmoothingEvensOutNoise) {
  std::vector<Row> rows{row_at({0, 0}, 0), row_at({2, 0}, 1), row_at({4, 0}, 0)};
  const double rough = octaves_at(fit_grid(axes(), rows, {1e-6, 1e-9}), Point2{2, 0});
  const double smooth = octaves_at(fit_grid(axes(), rows, {10, 1e-9}), Point2{2, 0});
  EXPECT_NEAR(rough, 1, 0.01);
  EXPECT_NEAR(smooth, 1.0 / 3, 0.05);  // the mean
}

}  // namespace
}  // namespace steploom
