#include "sim/timeline_match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/side_by_side.h"
#include "tests/sim/hand_timeline.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;
using testing::HandTimeline;
using ::testing::HasSubstr;

// Two kernels and a collective, issued in another order between streams.
Timeline sample(bool collective_first, const std::string& last = "fc2") {
  HandTimeline t;
  if (collective_first) t.collective("a2a", 0, 0, 3);
  t.kernel("fc1", 0, 0, 4);
  t.kernel(last, 0, 4, 5);
  if (!collective_first) t.collective("a2a", 0, 0, 3);
  return t.timeline();
}

TEST(TimelineMatch, GoesStreamByStream) {
  const TimelineMatch match = match_timelines(sample(false), sample(true));
  EXPECT_EQ(match.why_not, "");
  EXPECT_THAT(match.b_of_a, ElementsAre(1, 2, 0));
}

TEST(TimelineMatch, SaysWhatDiffers) {
  const TimelineMatch name = match_timelines(sample(false), sample(false, "fc3"));
  EXPECT_FALSE(name.same());
  EXPECT_TRUE(name.b_of_a.empty());
  EXPECT_THAT(name.why_not, HasSubstr("'fc2' on stream compute in A, 'fc3' on stream compute"));
  EXPECT_THAT(match_timelines(sample(false), HandTimeline(2).timeline()).why_not,
              HasSubstr("1 device(s) in A, 2 in B"));
  Timeline other = sample(false);
  other.slots[0].micro_batch = 7;
  EXPECT_THAT(match_timelines(sample(false), other).why_not, HasSubstr("micro-batch 7 in B"));
}

TEST(SideBySide, KeepsBothWhole) {
  const Timeline a = sample(false);
  const Timeline b = sample(true, "fc3");
  const Timeline both = side_by_side(a, "A", b, "B");
  ASSERT_EQ(both.events.size(), 6U);
  EXPECT_EQ(both.devices[0].name, "A · gpu0");
  EXPECT_EQ(both.devices[1].name, "B · gpu0");
  EXPECT_THAT(both.streams, ElementsAre("compute", "comm"));
  const TimelineEvent& last = both.events[5];
  EXPECT_EQ(both.names[last.name], "fc3");
  EXPECT_EQ(last.device, 1U);
  EXPECT_EQ(both.slots[last.slot].device, 1U);
  EXPECT_EQ(both.groups[both.events[3].group].name, "B · ep");
  EXPECT_THAT(both.groups[1].members, ElementsAre(1));
}

}  // namespace
}  // namespace steploom
