#include "sim/intervals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace steploom {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Intervals, UniteSortsMergesAndDropsWhatIsEmpty) {
  EXPECT_THAT(unite({{5, 7}, {0, 2}, {2, 3}, {4, 4}, {6, 9}}),
              ElementsAre(Interval{0, 3}, Interval{5, 9}));
  EXPECT_EQ(length(unite({{0, 4}, {2, 6}})), 6);
}

TEST(Intervals, CommonIsWhatLiesInBoth) {
  EXPECT_THAT(common({{0, 4}, {6, 10}}, {{2, 7}, {9, 12}}),
              ElementsAre(Interval{2, 4}, Interval{6, 7}, Interval{9, 10}));
  EXPECT_THAT(common({{0, 4}}, {{4, 5}}), IsEmpty());
}

TEST(Intervals, ASetAndItsComplementTileTheWhole) {
  const Intervals set{{2, 4}, {6, 10}};
  EXPECT_THAT(complement(set, 12), ElementsAre(Interval{0, 2}, Interval{4, 6}, Interval{10, 12}));
  EXPECT_THAT(complement({}, 3), ElementsAre(Interval{0, 3}));
  EXPECT_THAT(complement({{0, 3}}, 3), IsEmpty());
}

}  // namespace
}  // namespace steploom
