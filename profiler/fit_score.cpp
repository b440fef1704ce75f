#include "profiler/fit_score.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace steploom {

int fold_of(std::size_t point) {
  const auto scattered = static_cast<std::uint32_t>(point) * 2654435761u;
  return static_cast<int>((scattered >> 8) % kFolds);
}

std::vector<double> leave_out(std::size_t points,
                              const std::function<std::vector<double>(int fold)>& predict) {
  std::vector<double> result(points);
  for (int fold = 0; fold < kFolds; ++fold) {
    const std::vector<double> predicted = predict(fold);
    for (std::size_t i = 0; i < points; ++i) {
      if (fold_of(i) == fold) result[i] = predicted[i];
    }
  }
  return result;
}

LeaveOut score(std::string what, const std::vector<double>& measured,
               const std::vector<double>& predicted, const std::vector<bool>& counts) {
  std::vector<double> errors;
  for (std::size_t i = 0; i < measured.size(); ++i) {
    if (counts.empty() || counts[i]) errors.push_back(std::abs(predicted[i] / measured[i] - 1));
  }
  LeaveOut result{std::move(what), static_cast<std::int64_t>(errors.size()), 0, 0, 0};
  if (errors.empty()) return result;
  std::sort(errors.begin(), errors.end());
  result.median = errors[errors.size() / 2];
  result.p95 = errors[errors.size() * 95 / 100];
  result.worst = errors.back();
  return result;
}

}  // namespace steploom
