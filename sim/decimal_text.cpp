#include "sim/decimal_text.h"

#include <utility>

namespace steploom {

std::optional<std::int64_t> decimal(std::string_view digits, std::int64_t unit) {
  const std::int64_t most = (std::int64_t{1} << 60) / unit / 10;
  std::int64_t whole = 0, fraction = 0, scale = 1;
  bool point = false, any = false;
  for (const char c : digits) {
    if (c == '.' && !point) {
      point = true;
      continue;
    }
    if (c < '0' || c > '9' || whole > most || scale > most) return std::nullopt;
    any = true;
    if (point) scale *= 10;
    std::int64_t& part = point ? fraction : whole;
    part = part * 10 + (c - '0');
  }
  if (!any || whole > most * 10 - 1) return std::nullopt;
  return whole * unit + fraction * unit / scale;
}

std::optional<std::int64_t> whole_number(std::string_view digits) {
  if (digits.find('.') != digits.npos) return std::nullopt;
  return decimal(digits, 1);
}

std::optional<Picoseconds> time_with_unit(std::string_view text) {
  static constexpr std::pair<std::string_view, Picoseconds> kUnits[] = {
      {"ps", 1}, {"ns", 1'000}, {"us", 1'000'000}, {"ms", 1'000'000'000}};
  for (const auto& [unit, size] : kUnits)
    if (text.ends_with(unit)) return decimal(text.substr(0, text.size() - unit.size()), size);
  return std::nullopt;
}

std::optional<Bytes> bytes_with_suffix(std::string_view text) {
  const std::size_t suffix =
      text.empty() ? std::string_view::npos : std::string_view("KMG").find(text.back());
  if (suffix == std::string_view::npos) return decimal(text, 1);
  return decimal(text.substr(0, text.size() - 1), std::int64_t{1} << (10 * (suffix + 1)));
}

}  // namespace steploom
