#include "sim/event_tree.h"

#include <gtest/gtest.h>

#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

// The earliest event, the first stream at equal times, as a search through all would find it.
TEST(EventTree, PopsTheEarliest) {
  testing::Random random(3);
  for (const std::uint32_t streams : {1u, 2u, 3u, 7u, 64u}) {
    EventTree tree(streams);
    std::vector<Picoseconds> times(streams, kUnknown);
    EXPECT_EQ(tree.next(), kUnknown);
    for (int round = 0; round < 2000; ++round) {
      const std::uint32_t stream = random.below(streams);
      times[stream] = random.chance(20) ? kUnknown : random.below(50);
      tree.set(stream, times[stream]);
      const auto least = std::min_element(times.begin(), times.end());
      ASSERT_EQ(tree.next(), *least);
      if (*least == kUnknown || !random.chance(30)) continue;
      ASSERT_EQ(tree.pop(), least - times.begin());
      *least = kUnknown;
    }
  }
}

}  // namespace
}  // namespace steploom
