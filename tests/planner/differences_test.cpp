// What each difference buys alone, against replays made by hand.
#include "planner/differences.h"

#include <gmock/gmock.h>

#include "planner/search.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

TEST(Differences, EachIsOneReplayOfTheFirstWayWithOneKeyChanged) {
  World w(small_moe(), 1, 2048, 64);
  Runtime plain = w.setting.runtime;
  plain.overlap_grad_reduce = false;
  const Setting now{w.model, w.work, plain, w.cluster, w.costs, &w.contention};
  const Layout from = w.layout("tp=2,pp=1,ep=4,etp=1,sp=1,mbs=1,zero=0,recompute=full");
  const Layout to = w.layout("tp=2,pp=1,ep=4,etp=1,sp=1,mbs=2,zero=1,recompute=full");
  const auto list = differences({now, from}, {w.setting, to}, w.cache);

  ASSERT_EQ(list.size(), 3U);
  EXPECT_EQ(list[0].what, "mbs");
  Layout changed = from;
  changed.micro_batch = 2;
  EXPECT_EQ(list[0].step, evaluate(now, changed, w.cache).step);
  EXPECT_EQ(list[1].what, "zero");
  EXPECT_EQ(list[1].then, "1");
  EXPECT_EQ(list[2].what, "overlap-grad-reduce");
  EXPECT_EQ(list[2].step, evaluate(w.setting, from, w.cache).step);
}

TEST(Differences, WhatCannotStandAloneNamesItsRule) {
  World w(small_moe(), 1, 2048, 64);
  const Layout from = w.layout("tp=1,pp=1,ep=8,etp=1");
  const Layout to = w.layout("tp=2,pp=1,ep=8,etp=1,sp=1");
  const auto list = differences({w.setting, from}, {w.setting, to}, w.cache);
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0].what, "tp");
  EXPECT_FALSE(list[0].step);
  EXPECT_NE(list[0].refusal, "");
}

TEST(Differences, EqualWaysHaveNone) {
  World w(small_moe(), 1, 2048, 64);
  const Layout l = w.layout("tp=1,pp=1,ep=8,etp=1");
  EXPECT_TRUE(differences({w.setting, l}, {w.setting, l}, w.cache).empty());
}

}  // namespace
}  // namespace steploom
