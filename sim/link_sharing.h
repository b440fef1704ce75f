// Max-min fair sharing of links, in integers.
//
// A flow moves at a rate out of 65536 of its full speed, at most its cap (what its members' SMs
// allow). At rate x it draws x · weight / 65536 of a link's capacity of 65536, on every link that
// it uses. Rates are the max-min fair ones: no flow can go faster without a slower or equally fast
// one going slower. They are found by progressive filling: all rates rise together until a flow
// meets its cap or a link is full; those flows keep their rate, the others rise on.
//
//     caps 65536; A uses links 1 and 2 whole, B link 1 whole, C half of link 2
//     link 1 fills first at A = B = 1/2; on link 2 A draws 1/2, so C may go at 1
//
// Levels are rounded down, so links are never overdrawn; the result does not depend on the order of
// flows or links. A rate is at least 1.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/program.h"

namespace steploom {

struct LinkDraw {
  std::uint32_t link = 0;
  std::uint64_t weight = 0;  // of the link's capacity at full speed; below 2^32
};

class LinkSharing {
 public:
  explicit LinkSharing(std::uint32_t links) : links_(links) {}

  void clear();
  void add_flow(std::uint32_t cap);                         // flows are numbered as they are added
  void add_draw(std::uint32_t link, std::uint64_t weight);  // of the flow added last
  void solve();
  std::uint32_t rate(std::size_t flow) const { return flows_[flow].rate; }

 private:
  struct Flow {
    std::uint32_t cap = 0, rate = 0;  // rate 0: still rising
    std::uint32_t first_draw = 0, draws = 0;
  };
  struct Link {
    std::uint64_t free = 0;    // capacity x 65536, what fixed flows draw taken off
    std::uint64_t rising = 0;  // weights of the flows that still rise
    bool used = false;
    bool full = false;  // at the level being fixed
  };
  void fix(Flow& flow, std::uint32_t rate);

  std::vector<Flow> flows_;
  std::vector<LinkDraw> draws_;
  std::vector<Link> links_;
  std::vector<std::uint32_t> used_;  // links with a draw
};

}  // namespace steploom
