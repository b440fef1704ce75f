#include <gtest/gtest.h>

#include "sim/engine.h"
#include "sim/link_sharing.h"
#include "sim/program_text.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

constexpr std::uint32_t kFull = kFullRate, kHalf = kFullRate / 2;

// The classical example: A crosses both links, B the first, C the second; all could fill a link.
// Everybody gets half.
TEST(Links, ThreeFlowsTwoLinks) {
  LinkSharing sharing(2);
  sharing.add_flow(kFull);
  sharing.add_draw(0, kFull);
  sharing.add_draw(1, kFull);
  sharing.add_flow(kFull);
  sharing.add_draw(0, kFull);
  sharing.add_flow(kFull);
  sharing.add_draw(1, kFull);
  sharing.solve();
  for (int flow = 0; flow < 3; ++flow) EXPECT_EQ(sharing.rate(flow), kHalf);
}

// The second link is twice as wide (everybody draws half of it): the first fills at 1/2, and C may
// go on to full speed, for on the second link A draws 1/4 and C 1/2.
TEST(Links, WhatABottleneckLeavesOthersTake) {
  LinkSharing sharing(2);
  sharing.add_flow(kFull);
  sharing.add_draw(0, kFull);
  sharing.add_draw(1, kHalf);
  sharing.add_flow(kFull);
  sharing.add_draw(0, kFull);
  sharing.add_flow(kFull);
  sharing.add_draw(1, kHalf);
  sharing.solve();
  EXPECT_EQ(sharing.rate(0), kHalf);
  EXPECT_EQ(sharing.rate(1), kHalf);
  EXPECT_EQ(sharing.rate(2), kFull);
}

// A flow that its SMs hold to a quarter leaves three quarters.
TEST(Links, ACapLeavesTheRest) {
  LinkSharing sharing(1);
  for (const std::uint32_t cap : {kFull / 4, kFull}) {
    sharing.add_flow(cap);
    sharing.add_draw(0, kFull);
  }
  sharing.solve();
  EXPECT_EQ(sharing.rate(0), kFull / 4);
  EXPECT_EQ(sharing.rate(1), kFull / 4 * 3);
}

// Alone on a link of half its width a flow goes at half speed.
TEST(Links, AFlowMayBeTooWideForItsLink) {
  LinkSharing sharing(1);
  sharing.add_flow(kFull);
  sharing.add_draw(0, 2 * kFull);
  sharing.solve();
  EXPECT_EQ(sharing.rate(0), kHalf);
}

// No link is overdrawn, and no flow could go faster: it is at its cap, or on a link that is full
// but for rounding, where it is among the fastest.
TEST(Links, RatesAreMaxMinFair) {
  testing::Random random(7);
  for (int round = 0; round < 500; ++round) {
    const std::uint32_t links = 1 + random.below(5), flows = 1 + random.below(8);
    LinkSharing sharing(links);
    std::vector<std::uint32_t> cap;
    std::vector<std::vector<std::uint64_t>> weight(flows, std::vector<std::uint64_t>(links, 0));
    for (std::uint32_t f = 0; f < flows; ++f) {
      cap.push_back(1 + random.below(kFull));
      sharing.add_flow(cap.back());
      for (std::uint32_t l = 0; l < links; ++l) {
        if (random.chance(50)) weight[f][l] = 1 + random.below(2 * kFull);
        sharing.add_draw(l, weight[f][l]);
      }
    }
    sharing.solve();
    std::vector<std::uint64_t> drawn(links, 0), total(links, 0), fastest(links, 0);
    for (std::uint32_t f = 0; f < flows; ++f)
      for (std::uint32_t l = 0; l < links; ++l) {
        drawn[l] += weight[f][l] * sharing.rate(f);
        total[l] += weight[f][l];
        if (weight[f][l] > 0) fastest[l] = std::max<std::uint64_t>(fastest[l], sharing.rate(f));
      }
    constexpr std::uint64_t kCapacity = std::uint64_t{kFull} * kFull;
    for (std::uint32_t l = 0; l < links; ++l) EXPECT_LE(drawn[l], kCapacity);
    for (std::uint32_t f = 0; f < flows; ++f) {
      bool held = sharing.rate(f) == cap[f];
      for (std::uint32_t l = 0; l < links; ++l)
        held = held || (weight[f][l] > 0 && drawn[l] + total[l] > kCapacity &&
                        sharing.rate(f) + 1 >= fastest[l]);
      EXPECT_TRUE(held) << "round " << round << ", flow " << f;
    }
  }
}

Picoseconds end_of(const ProgramText& text, std::string_view device, std::string_view op) {
  const Contention neutral = neutral_contention(1);
  ReplayOptions options;
  options.contention = &neutral;
  return replay(text.program, options).end[operator_named(text.program, device, op)];
}

// Two messages over one link: both at half speed while both run. The second starts at 2 us, when 8
// us of the first are left; together they need 2 x 4 us for the second's 4; then the first's last
// 4 us run alone. Ends: 2 + 8 = 10 us and 14 us.
TEST(Links, CollectivesShareALink) {
  const ProgramText text = parse_program(R"(
    device a
    device b
    comm x a link wire:1
    comm y b link wire:1
    op first on a net 10us comm=x ctas=1
    op wait on b net 2us
    op second on b net 4us comm=y ctas=1
  )");
  EXPECT_EQ(end_of(text, "b", "second"), 10'000'000);
  EXPECT_EQ(end_of(text, "a", "first"), 14'000'000);
}

// Half of the link each, or operators that draw half of what their communicator may: no one waits.
TEST(Links, AWideLinkSlowsNobody) {
  const ProgramText halves = parse_program(R"(
    device a
    device b
    comm x a link wire:0.5
    comm y b link wire:0.5
    op first on a net 10us comm=x ctas=1
    op second on b net 4us comm=y ctas=1
  )");
  EXPECT_EQ(end_of(halves, "a", "first"), 10'000'000);
  const ProgramText draws = parse_program(R"(
    device a
    device b
    comm x a link wire:1
    comm y b link wire:1
    op first on a net 10us comm=x ctas=1 link=0.5
    op second on b net 4us comm=y ctas=1 link=0.5
  )");
  EXPECT_EQ(end_of(draws, "a", "first"), 10'000'000);
  EXPECT_EQ(end_of(draws, "b", "second"), 4'000'000);
}

// Members that would draw differently: the whole collective draws what its largest member says.
TEST(Links, TheLargestMemberDraws) {
  for (const bool first_is_largest : {false, true}) {
    const std::string one = first_is_largest ? "1" : "0.5", two = first_is_largest ? "0.5" : "1";
    const ProgramText text = parse_program(R"(
      device a
      device b
      device c
      comm x a b link wire:1
      comm y c link wire:1
      op both on a net 10us comm=x ctas=1 link=)" +
                                           one + R"(
      op both on b net 10us comm=x ctas=1 link=)" +
                                           two + R"(
      op other on c net 10us comm=y ctas=1
    )");
    EXPECT_EQ(end_of(text, "c", "other"), 20'000'000);
  }
}

// Without contention tables links are never short.
TEST(Links, ThePlainEngineIgnoresThem) {
  const ProgramText text = parse_program(R"(
    device a
    device b
    comm x a link wire:1
    comm y b link wire:1
    op first on a net 10us comm=x
    op second on b net 4us comm=y
  )");
  EXPECT_EQ(replay(text.program).makespan, 10'000'000);
}

}  // namespace
}  // namespace steploom
