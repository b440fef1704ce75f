#include "sim/grid.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "models/error.h"

namespace steploom {
namespace {

using Point2 = std::array<double, 2>;

Grid two_by_three() {
  Grid grid;
  grid.axes = {make_axis("x", {1, 4}), make_axis("y", {1, 2, 16})};
  grid.values = {0,   1000, 2000,  // x = 1
                 100, 1100, 2100};
  return grid;
}

TEST(Grid, GivesItsValuesAtTheCrossings) {
  const Grid grid = two_by_three();
  EXPECT_DOUBLE_EQ(octaves_at(grid, Point2{0, 0}), 0);
  EXPECT_DOUBLE_EQ(octaves_at(grid, Point2{2, 1}), 1.1);
  EXPECT_DOUBLE_EQ(octaves_at(grid, Point2{2, 4}), 2.1);
}

// Along y from 2 to 16 there are three octaves and one octave of correction.
TEST(Grid, IsLinearInTheLogarithms) {
  const Grid grid = two_by_three();
  EXPECT_DOUBLE_EQ(octaves_at(grid, Point2{0, 2.5}), 1.5);
  EXPECT_DOUBLE_EQ(octaves_at(grid, Point2{1, 2.5}), 1.55);
}

TEST(Grid, IsConstantOutside) {
  const Grid grid = two_by_three();
  EXPECT_DOUBLE_EQ(octaves_at(grid, Point2{-5, -5}), 0);
  EXPECT_DOUBLE_EQ(octaves_at(grid, Point2{50, 50}), 2.1);
}

TEST(Grid, SaysHowFarOutsideAPointIs) {
  const Grid grid = two_by_three();
  EXPECT_EQ(octaves_outside(grid.axes, Point2{1, 2}), 0);
  EXPECT_EQ(octaves_outside(grid.axes, Point2{-1, 2}), 1);
  EXPECT_EQ(octaves_outside(grid.axes, Point2{3, 7}), 3);
  const std::vector<Axis> one_knot{make_axis("x", {4}), make_axis("y", {1, 2})};
  EXPECT_EQ(octaves_outside(one_knot, Point2{9, 0}), 0);
}

TEST(Grid, CornerWeightsSumToOne) {
  const Grid grid = two_by_three();
  const Corners corners = corners_at(grid.axes, Point2{0.3, 2.2});
  ASSERT_EQ(corners.count, 4u);
  double sum = 0;
  for (std::size_t i = 0; i < corners.count; ++i) sum += corners.weight[i];
  EXPECT_NEAR(sum, 1, 1e-15);
}

TEST(Axis, RefusesKnotsThatDoNotGrow) {
  EXPECT_THROW(make_axis("x", {1, 2, 2}), Error);
  EXPECT_THROW(make_axis("x", {0, 1}), Error);
  EXPECT_THROW(make_axis("x", {}), Error);
}

}  // namespace
}  // namespace steploom
