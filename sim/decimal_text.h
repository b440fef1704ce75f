// Decimal numbers with units, read exactly: "2.5us" is 2500000 ps, without a floating-point step.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "models/work.h"

namespace steploom {

// Digits with at most one point, times `unit`, rounded down; nothing if it is anything else, or too
// large (results stay below 2^60).
std::optional<std::int64_t> decimal(std::string_view digits, std::int64_t unit);

std::optional<std::int64_t> whole_number(std::string_view digits);
std::optional<Picoseconds> time_with_unit(std::string_view text);  // ps, ns, us, ms
std::optional<Bytes> bytes_with_suffix(std::string_view text);     // none, K, M, G (binary)

}  // namespace steploom
