#include "models/rule_words.h"

#include <fmt/format.h>

#include <algorithm>

namespace steploom {

std::string divisors_of(std::int64_t n) {
  constexpr int kMostListed = 8;
  constexpr std::int64_t kMostTried = 4096;
  std::string text;
  int listed = 0;
  for (std::int64_t d = 1; d <= std::min(n, kMostTried); ++d) {
    if (n % d != 0) continue;
    if (listed == kMostListed) return text + ", ...";
    text += fmt::format("{}{}", listed == 0 ? "" : ", ", d);
    ++listed;
  }
  return text;
}

Broken must_divide(std::string_view degree_name, std::int64_t degree, std::string_view what,
                   std::int64_t n) {
  if (n % degree == 0) return std::nullopt;
  return fmt::format("{}={} does not divide {} {}; {} may be {}", degree_name, degree, n, what,
                     degree_name, divisors_of(n));
}

}  // namespace steploom
