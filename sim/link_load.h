// What links make of a step's communication, from below.
//
// Operators of a communicator of which several share a link (LinkUse::share counts them) cannot go
// at full speed even if nothing else runs; and whatever starts no earlier than some time has to
// pass its links after it. Both hold in any replay with contention, in whatever order, since links
// are never overdrawn.
#pragma once

#include <utility>
#include <vector>

#include "sim/flat_program.h"

namespace steploom {

class LinkLoad {
 public:
  explicit LinkLoad(const Program& program);

  // How long an operator takes that has its links for itself.
  Picoseconds alone(std::uint32_t communicator, std::uint32_t link_share,
                    Picoseconds duration) const;
  // It starts at `start` or later.
  void add(std::uint32_t communicator, std::uint32_t link_share, Picoseconds duration,
           Picoseconds start);
  // When the last link is done, at the least.
  Picoseconds end();

 private:
  struct Load {
    Picoseconds start = 0, time = 0;
  };
  const Program& program_;
  std::vector<std::uint32_t> most_;       // by communicator: its largest share of a link
  std::vector<std::vector<Load>> loads_;  // by link
};

}  // namespace steploom
