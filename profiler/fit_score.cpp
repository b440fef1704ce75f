#include "profiler/fit_score.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <utility>

namespace steploom {

Folds scattered_folds(std::size_t points) {
  constexpr std::uint32_t kFolds = 10;
  Folds folds;
  for (std::size_t i = 0; i < points; ++i) {
    const auto scattered = static_cast<std::uint32_t>(i) * 2654435761u;
    folds.push_back(static_cast<int>((scattered >> 8) % kFolds));
  }
  return folds;
}

Folds folds_by_value(const std::vector<double>& value_of_point) {
  std::map<double, int> fold_of_value;
  for (const double value : value_of_point) fold_of_value[value] = 0;
  int next = -1;  // of the least value
  for (auto& [value, fold] : fold_of_value) fold = next++;
  if (!fold_of_value.empty()) fold_of_value.rbegin()->second = -1;
  Folds folds;
  for (const double value : value_of_point) folds.push_back(fold_of_value[value]);
  return folds;
}

std::vector<double> leave_out(const Folds& folds,
                              const std::function<std::vector<double>(int fold)>& predict) {
  const int last = folds.empty() ? -1 : *std::max_element(folds.begin(), folds.end());
  std::vector<double> result(folds.size(), 0);
  for (int fold = 0; fold <= last; ++fold) {
    const std::vector<double> predicted = predict(fold);
    for (std::size_t i = 0; i < folds.size(); ++i) {
      if (folds[i] == fold) result[i] = predicted[i];
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
