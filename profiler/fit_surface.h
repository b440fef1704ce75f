// Fitting a Grid of corrections to measurements by ridge least squares.
//
// The unknowns are the values at the grid's crossings; a measurement of octaves =
// log2(measured / base) is one row, with the weights that the lookup will use (grid.h). Two
// penalties make every crossing determined, whether or not a measurement is near it: second
// differences along every axis (a straight surface costs nothing) and, far weaker, the values
// themselves (the physical base is right where nothing is known).
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "sim/grid.h"

namespace steploom {

// One equation: Σ coefficient · value at a crossing = octaves.
struct Row {
  std::vector<std::pair<std::uint32_t, double>> terms;  // crossing, coefficient
  double octaves = 0;
};

// Adds `share` times the lookup at a point to the row's terms.
void add_lookup(Row& row, const std::vector<Axis>& axes, std::span<const double> log2_point,
                double share);

struct Smoothing {
  double bend = 0.1;   // weight of a squared second difference (octaves per octave squared)
  double size = 1e-3;  // weight of a squared value
};

Grid fit_grid(std::vector<Axis> axes, const std::vector<Row>& rows, const Smoothing& by);

}  // namespace steploom
