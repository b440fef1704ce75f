// What rules say: a broken one's words, alike in every file of rules.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace steploom {

using Broken = std::optional<std::string>;  // empty: the rule is kept

// "1, 2, 4, 8, ...": the divisors of n that a degree may take.
std::string divisors_of(std::int64_t n);

Broken must_divide(std::string_view degree_name, std::int64_t degree, std::string_view what,
                   std::int64_t n);

}  // namespace steploom
