#include "sim/timeline_usage.h"

#include <gtest/gtest.h>

#include "tests/sim/hand_timeline.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

using testing::HandTimeline;
using testing::kMicro;

// compute  |fc1 0-4|                  |fc2 9-10|
// comm          |a2a 3-8, moves from 6|          fc2 is issued at 8.5
Timeline sample() {
  HandTimeline t;
  t.kernel("fc1", 0, 0, 4);
  t.collective("a2a", 0, 3, 8, {.joined = 6});
  t.kernel("fc2", 0, 9, 10, {.issued = 8.5});
  return t.timeline();
}

TEST(TimelineUsage, ExposedIsWhereNoComputeKernelRuns) {
  const TimelineUsage u = usage_of(sample());
  ASSERT_EQ(u.communication.size(), 1U);
  EXPECT_EQ(u.communication[0].what, "ep all_to_all");
  EXPECT_EQ(u.communication[0].busy, 5 * kMicro);
  EXPECT_EQ(u.communication[0].exposed, 4 * kMicro);
  EXPECT_EQ(u.communication[0].hidden(), 1 * kMicro);
  EXPECT_EQ(u.communication[0].waiting, 3 * kMicro);
}

TEST(TimelineUsage, IdleIsSplitByWhatWasGoingOn) {
  const IdleUsage idle = usage_of(sample()).idle;
  EXPECT_EQ(idle.peers, 2 * kMicro);          // 4 to 6
  EXPECT_EQ(idle.communication, 2 * kMicro);  // 6 to 8
  EXPECT_EQ(idle.host, kMicro / 2);           // 8 to 8.5
  EXPECT_EQ(idle.other, kMicro / 2);          // 8.5 to 9
}

TEST(TimelineUsage, MeansCountRanksNotDevices) {
  HandTimeline t(2);
  t.kernel("fc1", 0, 0, 4);
  t.kernel("fc1", 1, 0, 1);
  Timeline folded = t.timeline();
  EXPECT_EQ(usage_of(folded).by_class[0], 2.5 * kMicro);
  folded.devices[0].multiplicity = 3;
  EXPECT_EQ(usage_of(folded).by_class[0], 3.25 * kMicro);
  ASSERT_EQ(usage_of(folded).streams.size(), 1U);
  EXPECT_EQ(usage_of(folded).streams[0].name, "compute");
}

TEST(TimelineUsage, StaysWithinTheStep) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Program p = testing::random_program(seed);
    Timeline t = make_timeline(p, replay(p));
    for (TimelineEvent& e : t.events)
      e.kind = e.group == kNoGroup ? OpKind::matmul : OpKind::all_to_all;
    const TimelineUsage u = usage_of(t);
    EXPECT_LE(u.idle.total(), t.makespan);
    for (const CommunicationUsage& c : u.communication) {
      EXPECT_GE(c.hidden(), 0);
      EXPECT_LE(c.waiting, c.busy);
    }
  }
}

TEST(TimelineUsage, NothingIsNothing) {
  const TimelineUsage u = usage_of(Timeline{});
  EXPECT_EQ(u.idle.total(), 0);
  EXPECT_TRUE(u.streams.empty());
}

}  // namespace
}  // namespace steploom
