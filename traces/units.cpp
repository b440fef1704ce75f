#include "traces/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <span>

#include "models/error.h"

namespace steploom {
namespace {

struct Unit {
  std::string_view name;
  double size;
};

constexpr std::array<Unit, 5> kTimes{
    {{"ps", 1}, {"ns", 1e3}, {"us", 1e6}, {"ms", 1e9}, {"s", 1e12}}};
constexpr std::array<Unit, 6> kSizes{{{"B", 1},
                                      {"KiB", 0x1p10},
                                      {"MiB", 0x1p20},
                                      {"GiB", 0x1p30},
                                      {"TiB", 0x1p40},
                                      {"PiB", 0x1p50}}};
constexpr std::array<Unit, 5> kCounts{{{"", 1}, {"K", 1e3}, {"M", 1e6}, {"B", 1e9}, {"T", 1e12}}};

// Three significant digits, without zeros at the end of a fraction.
std::string three_digits(double value) {
  const double size = std::abs(value);
  std::string text = fmt::format("{:.{}f}", value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
  if (text.find('.') != text.npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text == "-0" ? "0" : text;
}

// In the largest unit of which it does not round to less than 1.
std::string scaled(double value, std::span<const Unit> units) {
  std::size_t u = 0;
  while (u + 1 < units.size() && std::abs(value) >= units[u + 1].size * 0.9995) ++u;
  const std::string number = three_digits(value / units[u].size);
  return units[u].name.empty() ? number : number + " " + std::string(units[u].name);
}

}  // namespace

std::string time_text(Picoseconds time) {
  return scaled(static_cast<double>(time), kTimes);
}

std::string bytes_text(Bytes bytes) {
  return scaled(static_cast<double>(bytes), kSizes);
}

std::string count_text(double count) {
  return scaled(count, kCounts);
}

std::string share_text(double share) {
  return fmt::format("{:.1f}%", 100 * share);
}

Picoseconds parse_time(std::string_view text, std::string_view reading) {
  constexpr double kMost = 1e18;
  constexpr std::array<Unit, 4> kUnits{{{"us", 1e6}, {"ms", 1e9}, {"s", 1e12}, {"min", 60e12}}};
  const auto refuse = [&](std::string expected) {
    throw Error({std::string(reading), "", std::move(expected), "'" + std::string(text) + "'", ""});
  };
  const char* const end = text.data() + text.size();
  double number = 0;
  const auto [after, fault] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  std::string_view unit(after, static_cast<std::size_t>(end - after));
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  const auto at = std::find_if(kUnits.begin(), kUnits.end(),
                               [&](const Unit& known) { return known.name == unit; });
  if (fault != std::errc() || !std::isfinite(number) || number <= 0 || at == kUnits.end())
    refuse("a time above 0 with its unit, s, ms, us or min, such as 13.75s");
  const double time = number * at->size;
  if (time > kMost) refuse("a time of at most 10^6 s");
  if (time < 0.5) refuse("a time of at least a picosecond");
  return static_cast<Picoseconds>(std::llround(time));
}

Bytes parse_bytes(std::string_view text, std::string_view reading, std::string_view place) {
  constexpr double kMost = 0x1p60;
  const auto refuse = [&](std::string expected) {
    throw Error({std::string(reading), std::string(place), std::move(expected),
                 "'" + std::string(text) + "'", ""});
  };
  const char* const end = text.data() + text.size();
  double number = 0;
  const auto [after, fault] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (fault != std::errc() || !std::isfinite(number) || number < 0)
    refuse("a size such as 64M or 1.5GiB");
  std::string unit(after, end);
  unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });

  double size = 1;
  if (!unit.empty() && unit != "B") {
    const std::size_t power = std::string_view("KMGT").find(unit[0]);
    const std::string_view rest = std::string_view(unit).substr(1);
    if (power == std::string_view::npos || (rest != "" && rest != "B" && rest != "IB"))
      refuse("a size in B, K, M, G or T, KiB to TiB (powers of 1024) or KB to TB (of 1000)");
    const double base = rest == "B" ? 1000 : 1024;
    for (std::size_t i = 0; i <= power; ++i) size *= base;
  }
  if (number * size > kMost) refuse("a size of at most 2^60 bytes");
  return static_cast<Bytes>(std::llround(number * size));
}

}  // namespace steploom
