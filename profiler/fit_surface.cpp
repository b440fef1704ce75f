#include "profiler/fit_surface.h"

#include <Eigen/Sparse>
#include <array>
#include <cmath>
#include <utility>

namespace steploom {
namespace {

using Normal = std::vector<Eigen::Triplet<double>>;

// Adds weight · (Σ coefficient · value)² to the sum of squares.
template <std::size_t N>
void add_penalty(Normal& normal, const std::array<std::size_t, N>& at,
                 const std::array<double, N>& coefficient, double weight) {
  for (std::size_t i = 0; i < N; ++i) {
    for (std::size_t j = 0; j < N; ++j) {
      normal.emplace_back(static_cast<int>(at[i]), static_cast<int>(at[j]),
                          weight * coefficient[i] * coefficient[j]);
    }
  }
}

void add_smoothing(Normal& normal, const std::vector<Axis>& axes, const Smoothing& by) {
  const std::size_t size = size_of(axes);
  for (std::size_t at = 0; at < size; ++at) {
    add_penalty<1>(normal, {at}, {1.0}, by.size);
    std::size_t stride = size;
    for (const Axis& axis : axes) {
      const std::vector<double>& x = axis.log2_knots;
      stride /= x.size();
      const std::size_t here = at / stride % x.size();
      if (here == 0 || here + 1 == x.size()) continue;
      // The change of slope at this knot.
      const double before = 1 / (x[here] - x[here - 1]);
      const double after = 1 / (x[here + 1] - x[here]);
      add_penalty<3>(normal, {at - stride, at, at + stride}, {before, -before - after, after},
                     by.bend);
    }
  }
}

}  // namespace

void add_lookup(Row& row, const std::vector<Axis>& axes, std::span<const double> log2_point,
                double share) {
  const Corners c = corners_at(axes, log2_point);
  for (std::size_t i = 0; i < c.count; ++i) {
    row.terms.emplace_back(c.index[i], share * c.weight[i]);
  }
}

Grid fit_grid(std::vector<Axis> axes, const std::vector<Row>& rows, const Smoothing& by) {
  const auto size = static_cast<Eigen::Index>(size_of(axes));
  Normal normal;
  Eigen::VectorXd right = Eigen::VectorXd::Zero(size);
  for (const Row& row : rows) {
    for (const auto& [at, coefficient] : row.terms) {
      right[at] += coefficient * row.octaves;
      for (const auto& [other, its] : row.terms) {
        normal.emplace_back(static_cast<int>(at), static_cast<int>(other), coefficient * its);
      }
    }
  }
  add_smoothing(normal, axes, by);
  Eigen::SparseMatrix<double> matrix(size, size);
  matrix.setFromTriplets(normal.begin(), normal.end());
  const Eigen::SimplicialLDLT<Eigen::SparseMatrix<double>> solver(matrix);
  const Eigen::VectorXd values = solver.solve(right);
  Grid grid{std::move(axes), {}};
  grid.values.reserve(static_cast<std::size_t>(size));
  for (Eigen::Index i = 0; i < size; ++i) {
    grid.values.push_back(static_cast<std::int32_t>(std::lround(values[i] * 1000)));
  }
  return grid;
}

}  // namespace steploom
