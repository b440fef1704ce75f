// Experts in chunks: what overlaps, by hand, and that cutting alone never helps.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "models/layout_rules.h"
#include "planner/lower.h"
#include "planner/search.h"
#include "planner/space.h"
#include "sim/engine.h"
#include "tests/planner/parted_layer.h"

namespace steploom {
namespace {

PartedLayer chunked(int chunks, std::int64_t shared = 0) {
  return PartedLayer("chunks", chunks, shared);
}

// One behind the other: 8 + 12 + 8 forward. Backward the up weight gradient alone is beside the
// last all-to-all: 8 + 6 + 4 + 6 + max(4, 8).
TEST(Chunks, WholeAnExpertPartOverlapsNothing) {
  const PartedLayer one = chunked(1);
  EXPECT_EQ(one.forward(), 28);
  EXPECT_EQ(one.backward(), 32);
}

// Two chunks of 4, 3 + 3 and 4 us. Forward: the second dispatch and the first combine lie under
// products. Backward: both weight gradients, 8 us, begin under the last all-to-all, at 16.
TEST(Chunks, TimelineByHand) {
  const PartedLayer two = chunked(2);
  EXPECT_EQ(two.at("dispatch forward 0"), (Span{0, 4}));
  EXPECT_EQ(two.at("dispatch forward 1"), (Span{4, 8}));
  EXPECT_EQ(two.at("experts up forward 0"), (Span{4, 7}));
  EXPECT_EQ(two.at("experts down forward 0"), (Span{7, 10}));
  EXPECT_EQ(two.at("combine forward 0"), (Span{10, 14}));
  EXPECT_EQ(two.at("experts up forward 1"), (Span{10, 13}));
  EXPECT_EQ(two.at("experts down forward 1"), (Span{13, 16}));
  EXPECT_EQ(two.at("combine forward 1"), (Span{16, 20}));
  EXPECT_EQ(two.forward(), 20);
  EXPECT_EQ(two.at("combine backward data_grad 1", true), (Span{4, 8}));
  EXPECT_EQ(two.at("experts down data_grad 0", true), (Span{4, 7}));
  EXPECT_EQ(two.at("dispatch backward data_grad 0", true), (Span{10, 14}));
  EXPECT_EQ(two.at("experts up data_grad 1", true), (Span{13, 16}));
  EXPECT_EQ(two.at("dispatch backward data_grad 1", true), (Span{16, 20}));
  EXPECT_EQ(two.at("experts down weight_grad 0", true), (Span{16, 18}));
  EXPECT_EQ(two.at("experts up weight_grad 1", true), (Span{22, 24}));
  EXPECT_EQ(two.backward(), 24);
}

// n chunks of 8/n, 12/n and 8/n: the products, and one chunk's exchanges before and after.
TEST(Chunks, TheExposedPartIsOneChunk) {
  for (const int n : {2, 4}) {
    EXPECT_EQ(chunked(n).forward(), 8 / n + 12 + 8 / n);
    EXPECT_EQ(chunked(n).backward(), 8 / n + 12 + std::max(8 / n, 8));
  }
}

// A shared expert of 3 us comes before the router; in chunks beside the first dispatch.
TEST(Chunks, ASharedExpertIsBesideTheFirstDispatch) {
  EXPECT_EQ(chunked(1, 2048).at("dispatch forward 0"), (Span{3, 11}));
  const PartedLayer two = chunked(2, 2048);
  EXPECT_EQ(two.at("dispatch forward 0"), (Span{0, 4}));
  EXPECT_EQ(two.at("shared expert up forward 0"), (Span{0, 3}));
  EXPECT_EQ(two.forward(), 20);
}

Picoseconds with_free_communication(const World& world, const Layout& l, CostCache& cache) {
  Lowered lowered = lower(world.setting, l, cache);
  for (BlockTemplate& b : lowered.program.blocks)
    for (OpTemplate& op : b.ops)
      if (op.role != kNoRole) op.duration = 0;
  return replay(lowered.program).makespan;
}

// Nothing is left to hide, so no plan gains: what a fit says of smaller products is no gain.
TEST(Chunks, NoPlanGainsFromCuttingWhenCommunicationIsFree) {
  for (const char* cluster : {"h100-sxm-80gb", "h200-sxm-141gb"}) {
    World world(small_moe(), 1, 1024, 8, "steploom", cluster);
    int tried = 0, seen = 0;
    for (Layout l : enumerate_layouts(world.setting).valid) {
      if (l.chunks == 1 || l.zero == 1 || l.micro_batch > 1) continue;
      if (++seen % kOneIn != 0) continue;
      const Picoseconds cut = with_free_communication(world, l, world.cache);
      const std::string text = to_text(l);
      l.chunks = 1;
      EXPECT_GE(cut, with_free_communication(world, l, world.cache)) << cluster << " " << text;
      ++tried;
    }
    EXPECT_GT(tried, 10 / kOneIn);
  }
}

// In the space wherever experts exchange rows, the rules allow it and the runtime can; nowhere
// else.
TEST(Chunks, AreADimensionOfTheSpace) {
  World world(small_moe(), 1, 1024, 8, "steploom");
  std::map<int, int> count;
  for (const Layout& l : enumerate_layouts(world.setting).valid) {
    ++count[l.chunks];
    EXPECT_TRUE(l.chunks == 1 || l.ep * l.etp > 1) << to_text(l);
  }
  for (const int n : {1, 2, 4, 8}) EXPECT_GT(count[n], 0) << n;
  World other(small_moe(), 1, 1024, 8, "megatron-core");  // cannot run them
  for (const Layout& l : enumerate_layouts(other.setting).valid) EXPECT_EQ(l.chunks, 1);
}

// A chunk's slices are not counted beside their whole: rows of a rank before and after the experts
// take the same memory in any number of chunks, and so does what the backward pass reads.
TEST(Chunks, MemoryIsThatOfTheWhole) {
  World world(small_moe(), 1, 1024, 8, "steploom");
  Bytes whole = 0;
  for (const int n : {1, 2, 4}) {
    const Layout l = world.layout("ep=8,zero=0,chunks=" + std::to_string(n));
    const Lowered lowered = lower(world.setting, l, world.cache);
    const Replay r = replay(lowered.program);
    const Bytes peak = *std::max_element(r.peak_memory.begin(), r.peak_memory.end());
    if (n == 1) whole = peak;
    EXPECT_LE(peak, whole + whole / 50) << n;
  }
}

}  // namespace
}  // namespace steploom
