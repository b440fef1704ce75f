// Two passes woven into one block.
#include "planner/weave.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "planner/lower.h"
#include "sim/relax.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

// Operators "0", "1", ...: a negative number of them is an exchange.
BlockTemplate block_of(const std::vector<int>& ops) {
  BlockTemplate b;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    OpTemplate op;
    OpInfo info;
    info.name = std::to_string(ops[i]);
    if (ops[i] < 0) {
      op.stream = static_cast<std::uint16_t>(StreamKind::ep);
      op.role = static_cast<std::uint16_t>(CommGroup::ep);
      info.group = CommGroup::ep;
      info.work.kind = OpKind::all_to_all;
    }
    op.first_dep = static_cast<std::uint32_t>(b.deps.size());
    if (i > 0) {
      op.deps = 1;
      b.deps.push_back(static_cast<std::uint32_t>(i - 1));
    }
    b.accesses.push_back(
        {static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i), AccessMode::write});
    b.ops.push_back(op);
    b.infos.push_back(info);
  }
  return b;
}

std::string order_of(const Woven& w) {
  std::string text;
  for (std::size_t i = 0; i < w.block.body.ops.size(); ++i)
    text += (w.block.body.ops[i].beside ? "b" : "f") + w.block.body.infos[i].name + " ";
  return text;
}

// combine's gradient | attention, dispatch | experts' gradient, dispatch's gradient | experts,
// combine | attention's gradient.
TEST(Weave, TakesTurnsAtTheExchanges) {
  const Woven w = weave(block_of({1, -2, 3, -4, 5}), block_of({10, -20, 30, -40, 50}));
  EXPECT_EQ(order_of(w), "b10 b-20 f1 f-2 b30 b-40 f3 f-4 b50 f5 ");
}

// Chunks follow one another: no cut between them.
TEST(Weave, KeepsRunsOfExchangesTogether) {
  const Woven w = weave(block_of({1, -2, -3, 4}), block_of({10, -20, -30, 40}));
  EXPECT_EQ(order_of(w), "b10 b-20 b-30 f1 f-2 f-3 b40 f4 ");
}

TEST(Weave, WhatHasFewerExchangesEndsFirst) {
  EXPECT_EQ(order_of(weave(block_of({1, 2}), block_of({10, -20, 30, -40, 50}))),
            "b10 b-20 f1 f2 b30 b-40 b50 ");
}

TEST(Weave, KeepsDependenciesAndAccesses) {
  const BlockTemplate f = block_of({1, -2, 3}), b = block_of({10, -20, 30});
  const Woven w = weave(f, b);
  const auto expect = [&](const BlockTemplate& from, const std::vector<std::uint32_t>& place) {
    ASSERT_EQ(place.size(), from.ops.size());
    EXPECT_TRUE(std::is_sorted(place.begin(), place.end()));
    for (std::size_t i = 0; i < from.ops.size(); ++i) {
      const OpTemplate& op = w.block.body.ops[place[i]];
      ASSERT_EQ(op.deps, from.ops[i].deps);
      for (std::uint32_t d = 0; d < op.deps; ++d)
        EXPECT_EQ(w.block.body.deps[op.first_dep + d], place[from.deps[from.ops[i].first_dep + d]]);
      const auto& all = w.block.body.accesses;
      EXPECT_EQ(
          std::count_if(all.begin(), all.end(), [&](const Access& a) { return a.op == place[i]; }),
          1);
    }
  };
  expect(f, w.of_forward);
  expect(b, w.of_backward);
  EXPECT_TRUE(std::is_sorted(w.block.body.accesses.begin(), w.block.body.accesses.end(),
                             [](const Access& x, const Access& y) { return x.op < y.op; }));
}

}  // namespace
}  // namespace steploom
