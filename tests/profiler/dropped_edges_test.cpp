// Which waits are needed, and that one of them can be taken out.
#include "profiler/dropped_edges.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "profiler/kernel_operands.h"
#include "tests/profiler/executing.h"

namespace steploom {
namespace {

TensorRef tensor(Bytes offset) {
  return {0, offset, ElementType::bf16, 1, 8};  // 16 bytes
}

Call call(int stream, Bytes from, Bytes to) {
  Call c;
  c.kernel = Add{tensor(to), tensor(from), tensor(from)};
  c.stream = stream;
  return c;
}

TEST(Operands, ShareBytesThatOneOfThemWrites) {
  const KernelCall a = Add{tensor(0), tensor(16), tensor(32)};
  EXPECT_TRUE(depends(Add{tensor(48), tensor(8), tensor(64)}, a));    // reads what a writes
  EXPECT_TRUE(depends(Add{tensor(24), tensor(48), tensor(64)}, a));   // writes what a reads
  EXPECT_TRUE(depends(Add{tensor(0), tensor(48), tensor(64)}, a));    // writes it too
  EXPECT_FALSE(depends(Add{tensor(48), tensor(16), tensor(32)}, a));  // both only read
}

// Call 0 on stream 0; 1 on stream 1 waits for it; 2 on stream 2 waits for both, which the wait for
// 1 alone implies; 3 on stream 1 waits for 2, whose bytes it does not touch.
TEST(NeededEdges, AreNeitherImpliedNorIdle) {
  Program p;
  p.slots.emplace_back();
  Execution e;
  e.streams.resize(3);
  e.events = 3;
  e.calls = {call(0, 0, 16), call(1, 16, 32), call(2, 32, 48), call(1, 64, 80)};
  for (int i = 0; i < 3; ++i) e.calls[static_cast<std::size_t>(i)].event = i;
  e.calls[1].waits = {0};
  e.calls[2].waits = {0, 1};
  e.calls[3].waits = {2};
  EXPECT_EQ(needed_edges(p, e), (std::vector<CrossEdge>{{0, 0, 1}, {0, 1, 2}}));
  p.slots[0].kind = SlotKind::optimizer;
  EXPECT_TRUE(needed_edges(p, e).empty());
  drop_edge(e, {0, 1, 2});
  EXPECT_EQ(e.calls[2].waits, (std::vector<std::uint32_t>{0}));
}

TEST(DrawnEdges, AreDifferentAndOfTheSeed) {
  const Lowering l(tiny_dense(), "tp=2,sp=1,zero=0", 2);
  const std::vector<CrossEdge> one = draw_edges(l.input(), 10, 1);
  ASSERT_EQ(one.size(), 10U);
  EXPECT_EQ(draw_edges(l.input(), 10, 1), one);
  EXPECT_NE(draw_edges(l.input(), 10, 2), one);
  for (std::size_t i = 0; i < one.size(); ++i)
    EXPECT_EQ(std::count(one.begin(), one.end(), one[i]), 1);
  Execution e = bind(l.input(), one[0].rank);
  const std::size_t waits = e.calls[one[0].to].waits.size();
  drop_edge(e, one[0]);
  EXPECT_EQ(e.calls[one[0].to].waits.size(), waits - 1);
  // All there are, when more are asked for.
  const std::size_t all = draw_edges(l.input(), 1'000'000, 1).size();
  EXPECT_GT(all, 10U);
  EXPECT_LT(all, 1'000'000U);
}

}  // namespace
}  // namespace steploom
