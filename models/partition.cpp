#include "models/partition.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <system_error>
#include <utility>

#include "models/error.h"
#include "models/nearest.h"

namespace steploom {
namespace {

constexpr std::array<std::string_view, 4> kFrom{"dispatch", "permute", "gate", "attention"};
constexpr std::array<std::string_view, 3> kTo{"combine", "layer", "attention"};
constexpr std::string_view kProgram = "lancet";

[[noreturn]] void refuse(std::string expected, std::string_view found, std::string hint = "") {
  throw Error(
      {"layout", "partition", std::move(expected), fmt::format("'{}'", found), std::move(hint)});
}

int parts_of(std::string_view text) {
  int parts = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), parts);
  if (fault != std::errc{} || end != text.data() + text.size() || parts < 2 || parts > kMostParts)
    refuse(fmt::format("a number of parts from 2 to {}", kMostParts), text);
  return parts;
}

std::size_t one_of(std::span<const std::string_view> words, std::string_view word) {
  const auto at = std::find(words.begin(), words.end(), word);
  if (at == words.end())
    refuse(fmt::format("{}", fmt::join(words, ", ")), word, nearest_hint(word, words));
  return static_cast<std::size_t>(at - words.begin());
}

// The text up to the next colon; takes both away.
std::string_view next(std::string_view& rest) {
  const std::size_t colon = rest.find(':');
  const std::string_view word = rest.substr(0, colon);
  rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
  return word;
}

}  // namespace

Partition parse_partition(std::string_view text) {
  constexpr std::string_view kForm = "PARTS:FROM:TO, as 4:gate:layer, or lancet:PARTS";
  if (text.find(':') == std::string_view::npos) refuse(std::string(kForm), text);
  std::string_view rest = text;
  Partition p;
  const std::string_view first = next(rest);
  if (first == kProgram) {
    p.program = true;
    p.parts = parts_of(rest);
    return p;
  }
  p.parts = parts_of(first);
  if (rest.find(':') == std::string_view::npos) refuse(std::string(kForm), text);
  p.from = static_cast<PartFrom>(one_of(kFrom, next(rest)));
  p.to = static_cast<PartTo>(one_of(kTo, rest));
  if ((p.from == PartFrom::dispatch) != (p.to == PartTo::combine))
    refuse("dispatch:combine, which cuts capacity, or neither of the two", text);
  return p;
}

std::string to_text(const Partition& p) {
  if (p.program) return fmt::format("{}:{}", kProgram, p.parts);
  return fmt::format("{}:{}:{}", p.parts, kFrom.at(static_cast<std::size_t>(p.from)),
                     kTo.at(static_cast<std::size_t>(p.to)));
}

}  // namespace steploom
