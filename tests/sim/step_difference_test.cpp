#include "sim/step_difference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "sim/program_text.h"
#include "tests/sim/hand_timeline.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

using testing::HandTimeline;
using testing::kMicro;
using Cause = DifferenceCause;

StepDifference compare(const Timeline& a, const Timeline& b) {
  const TimelineMatch match = match_timelines(a, b);
  EXPECT_EQ(match.why_not, "");
  return step_difference(a, b, match);
}

// The one difference there is, in microseconds.
void expect_only(const StepDifference& d, Cause cause, double micros, std::uint32_t event) {
  ASSERT_EQ(d.operators.size(), 1U);
  EXPECT_EQ(name_of(d.operators[0].cause), name_of(cause));
  EXPECT_EQ(d.operators[0].difference(),
            static_cast<Picoseconds>(micros * static_cast<double>(kMicro)));
  EXPECT_EQ(d.operators[0].event_a, event);
}

TEST(StepDifference, AKernelThatTakesLongerAlone) {
  HandTimeline a, b;
  a.kernel("fc1", 0, 0, 4);
  a.kernel("fc2", 0, 4, 6);
  b.kernel("fc1", 0, 0, 5);
  b.kernel("fc2", 0, 5, 7);
  const StepDifference d = compare(a.timeline(), b.timeline());
  EXPECT_EQ(d.difference, 1 * kMicro);
  expect_only(d, Cause::kernel, 1, 0);
  EXPECT_TRUE(d.operators[0].on_chain_a && d.operators[0].on_chain_b);
  EXPECT_EQ(d.mean(Cause::kernel), 1 * kMicro);
  EXPECT_EQ(d.left(), 0);
}

TEST(StepDifference, AKernelThatTakesLongerBesideAnother) {
  HandTimeline a, b;
  for (HandTimeline* t : {&a, &b}) t->collective("a2a", 0, 0, 2);
  a.kernel("fc1", 0, 0, 4);
  b.kernel("fc1", 0, 0, 4.5);
  const StepDifference d = compare(a.timeline(), b.timeline());
  expect_only(d, Cause::contention, 0.5, 1);
  EXPECT_EQ(d.mean(Cause::contention), kMicro / 2);
  EXPECT_EQ(d.left(), 0);
}

// The all-to-all waits for `gate`, not for the product that in B holds the SMs until 4.
TEST(StepDifference, ACollectiveThatIsReadyButNotAdmitted) {
  HandTimeline a, b;
  for (HandTimeline* t : {&a, &b}) {
    t->kernel("gate", 0, 0, 1);
    t->kernel("fc1", 0, 1, 4);
  }
  a.collective("a2a", 0, 1, 5, {.waits = {0}});
  b.collective("a2a", 0, 4, 8, {.waits = {0}});
  const StepDifference d = compare(a.timeline(), b.timeline());
  expect_only(d, Cause::admission, 3, 2);
  EXPECT_EQ(d.mean(Cause::admission), 3 * kMicro);
  EXPECT_EQ(d.left(), 0);
}

TEST(StepDifference, AnOperatorThatWaitsForItsHost) {
  HandTimeline a, b;
  a.kernel("fc1", 0, 0, 1, {.issued = 0});
  a.kernel("fc2", 0, 1, 2, {.issued = 0.5});
  b.kernel("fc1", 0, 0, 1, {.issued = 0});
  b.kernel("fc2", 0, 3, 4, {.issued = 3});
  const StepDifference d = compare(a.timeline(), b.timeline());
  expect_only(d, Cause::launch_gap, 2, 1);
  // A's chain has the gap behind fc1; B's goes back along the host: 3 us against 0.5 us until it
  // was issued, of which A had 0.5 us to spare.
  EXPECT_EQ(d.along_a[static_cast<std::size_t>(Cause::launch_gap)], 2 * kMicro);
  EXPECT_EQ(d.along_b[static_cast<std::size_t>(Cause::launch_gap)], 2.5 * kMicro);
  EXPECT_EQ(d.along_b[static_cast<std::size_t>(Cause::other_path)], -kMicro / 2);
}

// The host waits for fc1, and so its lateness is fc1's.
TEST(StepDifference, AHostThatWaitsForTheDevicePassesItsDelayOn) {
  HandTimeline a, b;
  a.kernel("fc1", 0, 0, 1, {.host_waits = true});
  a.kernel("fc2", 0, 2, 3, {.issued = 2});
  b.kernel("fc1", 0, 0, 4, {.host_waits = true});
  b.kernel("fc2", 0, 5, 6, {.issued = 5});
  const StepDifference d = compare(a.timeline(), b.timeline());
  expect_only(d, Cause::kernel, 3, 0);
  EXPECT_EQ(d.mean(Cause::kernel), 3 * kMicro);
  EXPECT_EQ(d.left(), 0);
}

// gpu1 comes late in B; that it does is its kernel's fault, and the chain leads there.
TEST(StepDifference, ACollectiveThatWaitsForItsPeer) {
  HandTimeline a(2), b(2);
  a.collective("a2a", 0, 0, 4, {.joined = 2});
  a.kernel("fc1", 1, 0, 2);
  a.collective("a2a", 1, 2, 4, {.waits = {1}});
  b.collective("a2a", 0, 0, 6, {.joined = 4});
  b.kernel("fc1", 1, 0, 4);
  b.collective("a2a", 1, 4, 6, {.waits = {1}});
  const StepDifference d = compare(a.timeline(), b.timeline());
  ASSERT_EQ(d.operators.size(), 2U);
  EXPECT_EQ(d.operators[0].event_a, 0U);
  EXPECT_EQ(d.operators[0].cause, Cause::peer);
  EXPECT_EQ(d.operators[0].difference(), 2 * kMicro);
  EXPECT_EQ(d.operators[1].event_a, 1U);
  EXPECT_EQ(d.operators[1].cause, Cause::kernel);
  EXPECT_EQ(d.mean(Cause::kernel), 2 * kMicro);
  EXPECT_EQ(d.left(), 0);
}

// Of one rank alone the peer is not known: there the wait itself is the cause.
TEST(StepDifference, APeerThatIsNotInTheTimelineIsItselfTheCause) {
  HandTimeline a, b;
  a.collective("a2a", 0, 0, 4, {.joined = 2});
  b.collective("a2a", 0, 0, 6, {.joined = 4});
  const StepDifference d = compare(a.timeline(), b.timeline());
  expect_only(d, Cause::peer, 2, 0);
  EXPECT_EQ(d.mean(Cause::peer), 2 * kMicro);
}

TEST(StepDifference, ALateStartThatNothingExplainsIsLeft) {
  HandTimeline a, b;
  a.kernel("fc1", 0, 0, 1);
  a.kernel("fc2", 0, 1, 2);
  b.kernel("fc1", 0, 0, 1);
  b.kernel("fc2", 0, 2, 3);
  const StepDifference d = compare(a.timeline(), b.timeline());
  expect_only(d, Cause::start_delay, 1, 1);
  EXPECT_EQ(d.explained(), 0);
  EXPECT_EQ(d.left(), 1 * kMicro);
}

// A: an all-to-all of 12 beside a product of 10, B: of 12 beside one of 15. Both before `add`.
TEST(StepDifference, AnotherPathIsNotThisChainsStory) {
  HandTimeline a, b;
  a.kernel("fc1", 0, 0, 10);
  a.collective("a2a", 0, 0, 12);
  a.kernel("add", 0, 12, 13, {.waits = {1}});
  b.kernel("fc1", 0, 0, 15);
  b.collective("a2a", 0, 0, 12);
  b.kernel("add", 0, 15, 16, {.waits = {1}});
  const StepDifference d = compare(a.timeline(), b.timeline());
  const auto contention = static_cast<std::size_t>(Cause::contention);
  const auto other = static_cast<std::size_t>(Cause::other_path);
  EXPECT_EQ(d.along_a[contention], 0);
  EXPECT_EQ(d.along_a[other], 3 * kMicro);
  EXPECT_EQ(d.along_b[contention], 5 * kMicro);
  EXPECT_EQ(d.along_b[other], -2 * kMicro);
  EXPECT_EQ(d.explained(), 2.5 * kMicro);
  EXPECT_EQ(d.left(), 0.5 * kMicro);
}

Picoseconds sum(const CauseTimes& times) {
  return std::accumulate(times.begin(), times.end(), Picoseconds{0});
}

Timeline timeline_of(const Program& program) {
  return make_timeline(program, replay(program));
}

TEST(StepDifference, EqualTimelinesHaveNone) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Program p = testing::random_program(seed);
    const StepDifference d = compare(timeline_of(p), timeline_of(p));
    EXPECT_EQ(d.difference, 0);
    EXPECT_EQ(d.along_a, CauseTimes{});
    EXPECT_EQ(d.along_b, CauseTimes{});
    EXPECT_TRUE(d.operators.empty());
  }
}

// Other durations and launch times: other chains. Still every chain adds up to the difference, and
// the comparison the other way round says minus the same.
TEST(StepDifference, AddsUpAndTurnsRound) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const Program p = testing::random_program(seed);
    Program q = p;
    testing::Random random(seed);
    for (BlockTemplate& block : q.blocks)
      for (OpTemplate& op : block.ops) {
        op.duration += op.duration * random.below(80) / 100;
        op.launch += random.below(3) * op.duration / 4;
      }
    const Timeline a = timeline_of(p), b = timeline_of(q);
    const StepDifference forth = compare(a, b), back = compare(b, a);
    ASSERT_EQ(forth.difference, b.makespan - a.makespan);
    ASSERT_EQ(sum(forth.along_a), forth.difference) << "seed " << seed;
    ASSERT_EQ(sum(forth.along_b), forth.difference) << "seed " << seed;
    ASSERT_EQ(forth.explained(), -back.explained());
    for (int c = 0; c < kDifferenceCauses; ++c)
      ASSERT_EQ(forth.mean(static_cast<Cause>(c)), -back.mean(static_cast<Cause>(c)));
    ASSERT_EQ(forth.operators.size(), back.operators.size());
    for (std::size_t i = 0; i < forth.operators.size(); ++i) {
      ASSERT_EQ(forth.operators[i].event_a, back.operators[i].event_b);
      ASSERT_EQ(forth.operators[i].cause, back.operators[i].cause);
      ASSERT_EQ(forth.operators[i].difference(), -back.operators[i].difference());
    }
  }
}

TEST(StepDifference, ATenthMoreOfOneOperatorIsNamedAsThat) {
  constexpr const char* kTwoStages = R"(
device first
device second
comm pair first second
slot first F 0
op fc1  on first  compute 40us
op fc2  on first  compute {}us
op send on first  pp 1us comm=pair send after=fc2
slot second F 0
op recv on second pp 1us comm=pair
op fc1  on second compute 20us after=recv
)";
  const auto with = [&](const std::string& time) {
    std::string text = kTwoStages;
    text.replace(text.find("{}"), 2, time);
    return timeline_of(parse_program(text).program);
  };
  const Timeline a = with("30"), b = with("33");
  const StepDifference d = compare(a, b);
  EXPECT_EQ(d.difference, 3 * kMicro);
  EXPECT_EQ(d.mean(Cause::kernel), 3 * kMicro);
  EXPECT_EQ(d.left(), 0);
  ASSERT_EQ(d.operators.size(), 2U);  // the receiver waits for it
  const auto named = [&](const OperatorDifference& o) { return a.names[a.events[o.event_a].name]; };
  EXPECT_EQ(named(d.operators[0]), "fc2");
  EXPECT_EQ(d.operators[0].cause, Cause::kernel);
  EXPECT_EQ(d.operators[0].a, 30 * kMicro);
  EXPECT_EQ(d.operators[0].b, 33 * kMicro);
  EXPECT_EQ(named(d.operators[1]), "recv");
  EXPECT_EQ(d.operators[1].cause, Cause::peer);
}

// In the engine, with contention: an all-to-all that wants 16 SMs waits for a product's wave.
TEST(StepDifference, AdmissionOfTheEngine) {
  constexpr const char* kProgram = R"(
device g sms=132
comm ep g
class gemm
class nccl
op gate on g compute 1us sms=1
op fc1  on g compute 50us sms=132 wave={} class=gemm after=gate
op a2a  on g comm 10us comm=ep ctas=16 class=nccl after=gate launch=2us
)";
  const auto with = [&](const std::string& wave) {
    std::string text = kProgram;
    text.replace(text.find("{}"), 2, wave);
    const ProgramText parsed = parse_program(text);
    ReplayOptions options;
    options.contention = &*parsed.contention;
    return make_timeline(parsed.program, replay(parsed.program, options));
  };
  const StepDifference d = compare(with("5us"), with("20us"));
  ASSERT_FALSE(d.operators.empty());
  EXPECT_EQ(d.operators[0].cause, Cause::admission);
  EXPECT_EQ(d.operators[0].event_a, 2U);
  EXPECT_EQ(d.operators[0].difference(), 15 * kMicro);
}

}  // namespace
}  // namespace steploom
