// The next event of every stream, and the earliest of them all: a tournament tree.
//
// One entry a stream, changed in place, so the queue never grows with the number of operators.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "sim/flat_program.h"

namespace steploom {

class EventTree {
 public:
  explicit EventTree(std::size_t streams)
      : leaves_(std::bit_ceil(std::max<std::size_t>(streams, 1))), times_(2 * leaves_, kUnknown) {}

  Picoseconds next() const { return times_[1]; }  // kUnknown: no event
  Picoseconds of(std::uint32_t stream) const { return times_[leaves_ + stream]; }

  void set(std::uint32_t stream, Picoseconds time) {
    std::size_t node = leaves_ + stream;
    times_[node] = time;
    while (node > 1) {
      node /= 2;
      const Picoseconds least = std::min(times_[2 * node], times_[2 * node + 1]);
      if (times_[node] == least) return;
      times_[node] = least;
    }
  }

  // The stream of the earliest event, the first if several; its event is taken away.
  std::uint32_t pop() {
    const Picoseconds time = times_[1];
    std::size_t node = 1;
    while (node < leaves_) node = 2 * node + (times_[2 * node] == time ? 0 : 1);
    const auto stream = static_cast<std::uint32_t>(node - leaves_);
    set(stream, kUnknown);
    return stream;
  }

  // Every event this much later.
  void delay(Picoseconds by) {
    for (Picoseconds& time : times_)
      if (time != kUnknown) time += by;
  }

  std::size_t bytes() const { return times_.size() * sizeof(Picoseconds); }

 private:
  std::size_t leaves_;
  std::vector<Picoseconds> times_;
};

}  // namespace steploom
