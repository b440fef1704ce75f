// What passes on the device between two operators: after the one before in a stream, and after what
// is waited for on another.
#include <gtest/gtest.h>

#include "sim/contention.h"
#include "sim/critical_path.h"
#include "sim/engine.h"
#include "sim/program_text.h"
#include "sim/relax.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

constexpr Picoseconds kMicrosecond = 1'000'000;

// The step by every way of replaying it.
Picoseconds step(const char* text) {
  const Program program = parse_program(text).program;
  const Picoseconds plain = replay(program).makespan;
  EXPECT_EQ(relax(program).makespan, plain);
  EXPECT_EQ(relaxed_makespan(program), plain);
  const Contention none = parse_program("device gpu0\nclass any\n").contention.value();
  EXPECT_EQ(replay(program, {&none}).makespan, plain);
  return plain;
}

// Four kernels of 10 us and three gaps of 1.5 us; none before the first.
TEST(Gaps, AChainTakesItsSumAndAGapBetweenEveryTwo) {
  EXPECT_EQ(step(R"(
    device gpu0
    op a on gpu0 compute 10us gap=1.5us
    op b on gpu0 compute 10us gap=1.5us
    op c on gpu0 compute 10us gap=1.5us
    op d on gpu0 compute 10us gap=1.5us
  )"),
            44'500'000);
}

// The gap is one between ends and starts on the device: a kernel that the host issues 3 us after
// the one before it has ended starts at once.
TEST(Gaps, HideBehindTheHost) {
  EXPECT_EQ(step(R"(
    device gpu0
    op a on gpu0 compute 2us gap=1.5us launch=5us
    op b on gpu0 compute 2us gap=1.5us launch=5us
  )"),
            12 * kMicrosecond);
}

// kernel 10, latency 5, collective 20, latency 4, kernel 10: 49 us. The second kernel's gap after
// the first is long over.
TEST(Gaps, AnEventsLatencyLiesBetweenStreams) {
  EXPECT_EQ(step(R"(
    device gpu0
    op a on gpu0 compute 10us gap=1.5us latency=4us
    op c on gpu0 comm 20us latency=5us after=a
    op b on gpu0 compute 10us gap=1.5us latency=4us after=c
  )"),
            49 * kMicrosecond);
}

// What was waited for has ended long ago: 10 + 1.5 + 10.
TEST(Gaps, ALatencyCountsFromTheEndOfWhatIsWaitedFor) {
  EXPECT_EQ(step(R"(
    device gpu0
    op c on gpu0 comm 1us
    op a on gpu0 compute 10us gap=1.5us
    op b on gpu0 compute 10us gap=1.5us latency=4us after=c
  )"),
            21'500'000);
}

// Inside a stream order is free of events, in a slot and between slots.
TEST(Gaps, NoEventInsideAStream) {
  EXPECT_EQ(step(R"(
    device gpu0
    op a on gpu0 compute 10us gap=1us latency=4us
    op b on gpu0 compute 10us gap=1us latency=4us after=a
    slot gpu0 B
    op c on gpu0 compute 10us gap=1us latency=4us after=a
  )"),
            32 * kMicrosecond);
}

TEST(Gaps, SlotEdgesBetweenStreamsHaveALatency) {
  EXPECT_EQ(step(R"(
    device gpu0
    op a on gpu0 compute 10us
    slot gpu0 B
    op c on gpu0 comm 10us latency=4us after=a
  )"),
            24 * kMicrosecond);
}

// Both members start 5 us after their kernels, and move from the later start on.
TEST(Gaps, ACollectiveBeginsWithItsLastMember) {
  EXPECT_EQ(step(R"(
    device gpu0
    device gpu1
    comm x gpu0 gpu1
    op a on gpu0 compute 10us
    op a on gpu1 compute 12us
    op c on gpu0 comm 20us latency=5us after=a comm=x
    op c on gpu1 comm 20us latency=5us after=a comm=x
  )"),
            37 * kMicrosecond);
}

// Gaps on the critical path are idle, and the path still tiles the step.
TEST(Gaps, AreIdleOnTheCriticalPath) {
  const Program program = parse_program(R"(
    device gpu0
    op a on gpu0 compute 10us gap=1.5us
    op b on gpu0 compute 10us gap=1.5us
    op c on gpu0 comm 20us latency=5us after=b
  )")
                              .program;
  const Replay r = replay(program);
  EXPECT_EQ(r.makespan, 46'500'000);
  const CriticalPath path = critical_path(program, r);
  EXPECT_EQ(path.waiting, 6'500'000);
  Picoseconds at = 0;
  for (const PathSegment& s : path.segments) {
    EXPECT_EQ(s.start, at);
    at = s.end;
  }
  EXPECT_EQ(at, r.makespan);
}

TEST(Gaps, LongestPathAndReplayAgreeOnRandomPrograms) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Program program = testing::random_program(seed);
    const Picoseconds without = replay(program).makespan;
    testing::Random random(seed + 1000);
    for (BlockTemplate& block : program.blocks)
      for (OpTemplate& op : block.ops) {
        op.stream_gap = random.below(300);
        op.event_latency = random.below(900);
      }
    const Replay exact = replay(program);
    ASSERT_EQ(relax(program).end, exact.end) << "seed " << seed;
    EXPECT_GE(exact.makespan, without);
    const Contention tables = testing::random_contention(seed);
    EXPECT_GE(replay(program, {&tables}).makespan, exact.makespan);
    const CriticalPath path = critical_path(program, exact);
    Picoseconds sum = path.host + path.waiting;
    for (const Picoseconds t : path.by_class) sum += t;
    EXPECT_EQ(sum, exact.makespan) << "seed " << seed;
  }
}

}  // namespace
}  // namespace steploom
