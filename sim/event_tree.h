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
      : leaves_(std::bit_ceil(std::max<std::size_t>(streams, 1))), nodes_(2 * leaves_) {
    for (std::size_t s = 0; s < leaves_; ++s)
      nodes_[leaves_ + s].stream = static_cast<std::uint32_t>(s);
    for (std::size_t n = leaves_; n-- > 1;) nodes_[n].stream = nodes_[2 * n].stream;
  }

  Picoseconds next() const { return nodes_[1].time; }  // kUnknown: no event
  Picoseconds of(std::uint32_t stream) const { return nodes_[leaves_ + stream].time; }

  void set(std::uint32_t stream, Picoseconds time) {
    std::size_t n = leaves_ + stream;
    nodes_[n].time = time;
    while (n > 1) {
      const Node& left = nodes_[n & ~std::size_t{1}];
      const Node& right = nodes_[n | 1];
      const Node earlier = right.time < left.time ? right : left;
      Node& winner = nodes_[n /= 2];
      if (winner.time == earlier.time && winner.stream == earlier.stream) return;
      winner = earlier;
    }
  }

  // The stream of the earliest event, the first if several; its event is taken away.
  std::uint32_t pop() {
    const std::uint32_t stream = nodes_[1].stream;
    set(stream, kUnknown);
    return stream;
  }

  std::size_t bytes() const { return nodes_.size() * sizeof(Node); }

 private:
  struct Node {
    Picoseconds time = kUnknown;
    std::uint32_t stream = 0;  // whose event it is, the winner of those below
  };
  std::size_t leaves_;
  std::vector<Node> nodes_;
};

}  // namespace steploom
