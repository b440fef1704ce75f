// A step's clock: as high as the mean power allows, and no higher than does any good.
#include "sim/step_clock.h"

#include <gtest/gtest.h>

#include "sim/program_text.h"
#include "sim/relax.h"

namespace steploom {
namespace {

constexpr Picoseconds kMicrosecond = 1'000'000;

// 600 W over idle; a kernel draws with the square of the clock, and so its energy with the clock.
ClockLaw law() {
  return {.most_mhz = 2000,
          .least_mhz = 500,
          .limit_watts = 700,
          .idle_watts = 100,
          .reach = 1.2,
          .exponent = 2};
}

// Operators in the order of the text; what they are measured at and draw, by operator.
struct Drawn {
  std::uint16_t mhz = 0;
  std::uint32_t microjoules = 0;
};
Program program_of(const char* text, const std::vector<Drawn>& drawn) {
  Program p = parse_program(text).program;
  p.clock = law();
  std::size_t next = 0;
  for (BlockTemplate& b : p.blocks)
    for (OpTemplate& op : b.ops) {
      op.mhz = drawn.at(next).mhz;
      op.microjoules = drawn.at(next++).microjoules;
    }
  EXPECT_EQ(next, drawn.size());
  return p;
}

// The limit over a millisecond at 1500 MHz.
constexpr Drawn kProduct{1500, 600'000};

void expect_near(Picoseconds found, double microseconds) {
  const double us = static_cast<double>(found) / kMicrosecond;
  EXPECT_LE(us, microseconds * (1 + 2.0 / kClockTolerance));
  EXPECT_GE(us, microseconds * (1 - 2.0 / kClockTolerance));
}

// What is measured alone takes alone what was measured.
TEST(StepClock, AKernelAloneRunsAsItWasMeasured) {
  Program p = program_of("device gpu0\nop a on gpu0 compute 1000us\n", {kProduct});
  expect_near(replay_at_clock(p).makespan, 1000);
  EXPECT_NEAR(p.devices[0].mhz, 1500, 2);
}

// A product of x = f/1500, then 200 us of which nothing is drawn: it takes 1000/x and draws 600 x
// mJ, so that 600 x = 600 (1/x + 0.2), x = 0.1 + √1.01 = 1.105, and the step 905 + 200 us.
TEST(StepClock, WhatWaitsLeavesPowerForTheRest) {
  Program p = program_of(R"(
    device gpu0
    op a on gpu0 compute 1000us
    op c on gpu0 comm 200us after=a
  )",
                         {kProduct, {}});
  expect_near(replay_at_clock(p).makespan, 1000 / 1.10499 + 200);
  EXPECT_NEAR(p.devices[0].mhz, 1657, 3);
}

// A kernel of 500 us that moves bytes, 150 mJ at 2000 MHz, draws in proportion to the clock and
// takes the same at any: 600 x + 150 · 0.75 x = 600 (1/x + 0.5), x = 1.15203.
TEST(StepClock, WhatMovesBytesKeepsItsTime) {
  Program p = program_of(R"(
    device gpu0
    op a on gpu0 compute 1000us
    op b on gpu0 compute 500us
  )",
                         {kProduct, {0, 150'000}});
  expect_near(replay_at_clock(p).makespan, 1000 / 1.15203 + 500);
  EXPECT_EQ(p.blocks[0].ops[1].duration, 500 * kMicrosecond);
}

// Waiting for a long time the card may run at the most it can, but a kernel gains no more than its
// reach: 1000/1.2 us.
TEST(StepClock, NoKernelGoesBeyondItsReach) {
  Program p = program_of(R"(
    device gpu0
    op a on gpu0 compute 1000us
    op c on gpu0 comm 10000us after=a
  )",
                         {kProduct, {}});
  EXPECT_EQ(replay_at_clock(p).makespan, 10833333334);
  EXPECT_EQ(p.devices[0].mhz, 2000);
}

// What was measured at a higher clock than the step's takes longer in it: 100 us at 1800 MHz after
// 1000 us at 1500 MHz, both at the limit alone.
TEST(StepClock, WhatWasMeasuredCoolRunsSlower) {
  Program p = program_of(R"(
    device gpu0
    op a on gpu0 compute 1000us
    op b on gpu0 compute 100us
  )",
                         {kProduct, {1800, 60'000}});
  const Picoseconds step = replay_at_clock(p).makespan;
  EXPECT_GT(p.blocks[0].ops[1].duration, 115 * kMicrosecond);
  EXPECT_GT(step, 1100 * kMicrosecond);
}

// Two devices with templates of their own have clocks of their own; one that shares its templates
// shares its clock.
TEST(StepClock, EveryDeviceHasItsOwn) {
  Program p = program_of(R"(
    device gpu0
    device gpu1
    op a on gpu0 compute 1000us
    op b on gpu1 compute 500us
  )",
                         {kProduct, {1500, 300'000}});
  replay_at_clock(p);
  EXPECT_NEAR(p.devices[0].mhz, 1500, 2);
  EXPECT_EQ(p.devices[1].mhz, 2000);
}

TEST(StepClock, IsFoundOnce) {
  Program p = program_of("device gpu0\nop a on gpu0 compute 1000us\n", {{1700, 600'000}});
  const Picoseconds first = replay_at_clock(p).makespan;
  EXPECT_EQ(replay(p).makespan, first);
  EXPECT_EQ(replay_at_clock(p).makespan, first);
}

TEST(StepClock, WithoutALawNothingChanges) {
  Program p = program_of("device gpu0\nop a on gpu0 compute 1000us\n", {kProduct});
  p.clock = {};
  EXPECT_EQ(replay_at_clock(p).makespan, 1000 * kMicrosecond);
  EXPECT_EQ(p.devices[0].mhz, 0);
  EXPECT_EQ(ClockedProgram(p).relaxed(), 1000 * kMicrosecond);
  EXPECT_TRUE(ClockedProgram(p).may_beat(1000 * kMicrosecond + 1));
  EXPECT_FALSE(ClockedProgram(p).may_beat(1000 * kMicrosecond));
}

// What the limit allows is a bound from below, and hardly loose where nothing contends.
TEST(StepClock, RelaxedIsABound) {
  Program p = program_of(R"(
    device gpu0
    op a on gpu0 compute 1000us
    op c on gpu0 comm 200us after=a
  )",
                         {kProduct, {0, 20'000}});
  ClockedProgram clocked(p);
  const Picoseconds bound = clocked.relaxed();
  EXPECT_FALSE(clocked.may_beat(bound));
  const Picoseconds step = clocked.replay({}).makespan;
  EXPECT_LE(bound, step);
  EXPECT_GE(bound, step - 2 * step / kClockTolerance);
}

// Even at the lowest clock more than the limit is drawn: that is how it runs.
TEST(StepClock, NeverFallsBelowTheLeast) {
  Program p = program_of("device gpu0\nop a on gpu0 compute 1000us\n", {{0, 4'000'000}});
  p.clock.least_mhz = 1900;
  EXPECT_EQ(replay_at_clock(p).makespan, 1000 * kMicrosecond);
  EXPECT_EQ(p.devices[0].mhz, 1900);
}

}  // namespace
}  // namespace steploom
