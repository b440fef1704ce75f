// What links alone make of communication is no more than what replays find.
#include "sim/link_load.h"

#include <gtest/gtest.h>

#include "sim/contention.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

constexpr std::uint32_t kWhole = 0xffff;  // of its communicator's share

// Communicators: of two groups that share a link, and of one that has half of it.
Program one_link() {
  Program p;
  p.links = 1;
  p.communicators.resize(2);
  p.communicators[0].uses = {{0, 2 * kFullRate}};
  p.communicators[1].uses = {{0, kFullRate / 2}};
  return p;
}

TEST(LinkLoad, TwoGroupsOnALinkTakeTwiceAsLong) {
  const Program p = one_link();
  const LinkLoad load(p);
  EXPECT_EQ(load.alone(0, kWhole, 100'000), 200'000);
  EXPECT_EQ(load.alone(1, kWhole, 100'000), 100'000);
}

// From 50 on the link has 200 + 30 to carry; what began at 0 is through by then.
TEST(LinkLoad, WhatStartsLaterHasToPassTheLinkLater) {
  const Program p = one_link();
  LinkLoad load(p);
  load.add(1, kWhole, 40, 0);    // 20 of the link
  load.add(0, kWhole, 100, 50);  // 200
  load.add(1, kWhole, 60, 90);   // 30
  EXPECT_EQ(load.end(), 50 + 230);
}

TEST(LinkLoad, LongestPathsWithLinksAreNoMoreThanReplays) {
  int raised = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Program p = testing::random_program(seed);
    for (Communicator& c : p.communicators)
      for (LinkUse& use : c.uses) use.share *= 1 + static_cast<std::uint32_t>(seed % 4);
    const Contention tables = testing::random_contention(seed);
    const Contention neutral = neutral_contention(testing::kRandomClasses);
    const Picoseconds bound = relaxed_makespan(p, true);
    EXPECT_GE(bound, relaxed_makespan(p)) << "seed " << seed;
    raised += bound > relaxed_makespan(p);
    for (const Contention* c : {&tables, &neutral})
      EXPECT_LE(bound, makespan(p, {c})) << "seed " << seed;
  }
  EXPECT_GT(raised, 30);
}

}  // namespace
}  // namespace steploom
