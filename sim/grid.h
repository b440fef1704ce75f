// A smooth correction in a few logarithmic variables: what a fit to measurements consists of.
//
// A Grid holds one number, in thousandths of an octave (a factor of 2^(1/1000), 0.07 %), at every
// crossing of its axes' knots. Between knots it is linear in the logarithm of each variable, and
// outside the knots it is constant. A kernel's time is its physical base times 2^octaves: the base
// carries roofline and tile quantisation, the grid carries how far real kernels are from it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace steploom {

struct Axis {
  std::string name;                // "tokens"
  std::vector<double> knots;       // increasing, positive, in the variable's own unit
  std::vector<double> log2_knots;  // filled by make_axis
};

// Throws Error (naming the axis) unless there is a knot and they are positive and increasing.
Axis make_axis(std::string name, std::vector<double> knots);

inline constexpr std::size_t kMostAxes = 4;

struct Grid {
  std::vector<Axis> axes;            // at most kMostAxes
  std::vector<std::int32_t> values;  // thousandths of an octave, the last axis runs fastest
};

std::size_t size_of(const std::vector<Axis>& axes);  // crossings

// The crossings that a point lies between and their weights, which sum to one. The fit uses them as
// its rows, so that what was fitted is what is looked up.
struct Corners {
  std::array<std::uint32_t, 1u << kMostAxes> index{};
  std::array<double, 1u << kMostAxes> weight{};
  std::size_t count = 0;
};
Corners corners_at(const std::vector<Axis>& axes, std::span<const double> log2_point);

// How far a point is from the knots' range, in octaves along the axis where it is farthest; 0
// inside. An axis of one knot does not count: its variable changes nothing.
double octaves_outside(const std::vector<Axis>& axes, std::span<const double> log2_point);

// The correction at a point, in octaves; `log2_point` has one binary logarithm an axis.
double octaves_at(const Grid& grid, std::span<const double> log2_point);

}  // namespace steploom
