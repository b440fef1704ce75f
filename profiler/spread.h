// Median and quartiles of repeated measurements, linear between order statistics.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace steploom {

struct Spread {
  double first = 0;  // quartile
  double median = 0;
  double third = 0;  // quartile
  int samples = 0;
};

inline Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&values](double part) {
    const double place = part * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  if (values.empty()) return {};
  return {at(0.25), at(0.5), at(0.75), static_cast<int>(values.size())};
}

}  // namespace steploom
