// What runs in parts around an expert layer's exchange, so that a part is computed while another
// travels (Lancet, arXiv 2404.19429, section 5): a choice of the layout, and its text form.
//
// "4:gate:layer" cuts the forward pass of every layer with experts in four, from the norm before
// its gate to its residual sum: parts of the micro-batch's tokens, so the rows that one sends to an
// expert are as many as its tokens chose. From where, and to where:
//   dispatch   the first all-to-all           combine    the second all-to-all
//   permute    the gathering of its rows      layer      the layer's residual sum
//   gate       the norm before the gate       attention  the next layer's attention, to its sum
//   attention  the layer's own attention
// "dispatch:combine" cuts every expert's capacity in place of the tokens; it goes with neither of
// the others. "lancet:8" leaves ranges and parts, up to so many, to the range program
// (planner/range_program.h).
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace steploom {

enum class PartFrom : std::uint8_t { dispatch, permute, gate, attention };
enum class PartTo : std::uint8_t { combine, layer, attention };

struct Partition {
  int parts = 1;         // 1: nothing is cut
  bool program = false;  // ranges, and parts up to `parts`, are chosen by the range program
  PartFrom from = PartFrom::dispatch;
  PartTo to = PartTo::combine;

  bool cuts() const { return parts > 1; }
  bool cuts_capacity() const { return from == PartFrom::dispatch; }
  auto operator<=>(const Partition&) const = default;
};

inline constexpr int kMostParts = 64;

// Throws Error naming the layout's key.
Partition parse_partition(std::string_view text);
std::string to_text(const Partition& p);  // parse_partition reads it back

}  // namespace steploom
