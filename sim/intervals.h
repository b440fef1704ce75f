// Sets of moments as sorted lists of half-open intervals [start, end) that neither touch nor
// overlap: what unite() makes and everything else expects.
#pragma once

#include <algorithm>
#include <vector>

#include "models/work.h"

namespace steploom {

struct Interval {
  Picoseconds start = 0;
  Picoseconds end = 0;
  auto operator<=>(const Interval&) const = default;
};
using Intervals = std::vector<Interval>;

// Any intervals, in any order; empty ones vanish.
inline Intervals unite(Intervals any) {
  std::sort(any.begin(), any.end());
  Intervals out;
  for (const Interval& i : any) {
    if (i.end <= i.start) continue;
    if (!out.empty() && i.start <= out.back().end)
      out.back().end = std::max(out.back().end, i.end);
    else
      out.push_back(i);
  }
  return out;
}

inline Picoseconds length(const Intervals& set) {
  Picoseconds sum = 0;
  for (const Interval& i : set) sum += i.end - i.start;
  return sum;
}

// What lies in both.
inline Intervals common(const Intervals& a, const Intervals& b) {
  Intervals out;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const Interval both{std::max(a[i].start, b[j].start), std::min(a[i].end, b[j].end)};
    if (both.start < both.end) out.push_back(both);
    if (a[i].end < b[j].end)
      ++i;
    else
      ++j;
  }
  return out;
}

// What of [0, end) lies outside.
inline Intervals complement(const Intervals& set, Picoseconds end) {
  Intervals out;
  Picoseconds from = 0;
  for (const Interval& i : set) {
    if (from < i.start) out.push_back({from, std::min(i.start, end)});
    from = std::max(from, i.end);
  }
  if (from < end) out.push_back({from, end});
  return out;
}

}  // namespace steploom
