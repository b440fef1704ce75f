#include "profiler/verify_step.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace steploom {

bool Verification::passes() const {
  return !tensors.empty() && std::all_of(tensors.begin(), tensors.end(),
                                         [](const TensorError& t) { return t.passes(); });
}

const TensorError& Verification::worst() const {
  const auto over = [](const TensorError& t) {
    return std::isnan(t.error) ? std::numeric_limits<double>::infinity()
                               : t.error / std::max(t.bound, 1e-300);
  };
  return *std::max_element(
      tensors.begin(), tensors.end(),
      [&](const TensorError& a, const TensorError& b) { return over(a) < over(b); });
}

double flops_of(const Program& program) {
  double sum = 0;
  for (const Slot& slot : program.slots)
    for (const OpInfo& info : program.blocks[slot.block].infos) sum += info.work.flops;
  return sum;
}

double relative_error(std::span<const double> got, std::span<const double> want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::quiet_NaN();
  double square = 0;
  double size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    square += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  if (square == 0) return 0;
  return std::sqrt(square) / std::max(std::sqrt(size), 1e-300);
}

}  // namespace steploom
