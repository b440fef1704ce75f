// Filling gaps: by hand, and against every filling there is.
#include "planner/weight_gaps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace steploom {
namespace {

Picoseconds filled(const std::vector<Picoseconds>& room, const std::vector<GapItem>& items,
                   const std::vector<int>& gap) {
  std::vector<Picoseconds> sum(room.size(), 0);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (gap[i] < 0) continue;
    EXPECT_GE(gap[i], items[i].first);
    EXPECT_LE(gap[i], items[i].last);
    sum[static_cast<std::size_t>(gap[i])] += items[i].time;
  }
  Picoseconds all = 0;
  for (std::size_t j = 0; j < room.size(); ++j) all += std::min(room[j], sum[j]);
  return all;
}

Picoseconds best_of_all(const std::vector<Picoseconds>& room, const std::vector<GapItem>& items) {
  std::vector<int> gap(items.size(), -1);
  Picoseconds best = 0;
  const std::function<void(std::size_t)> from = [&](std::size_t i) {
    if (i == items.size()) {
      best = std::max(best, filled(room, items, gap));
      return;
    }
    for (int j = -1; j < static_cast<int>(room.size()); ++j) {
      if (j >= 0 && (j < items[i].first || j > items[i].last)) continue;
      gap[i] = j;
      from(i + 1);
    }
  };
  from(0);
  return best;
}

// Room 10 and 6. Best fit puts 9 into the first gap and, for the 1 that is left, the 2; the second
// gets the 4: 10 + 4. With 4 and 2 in the second gap all of the 15 fit.
TEST(WeightGaps, TheGreedyTakesTooMuch) {
  const std::vector<Picoseconds> room{10, 6}, times{9, 4, 2};
  const auto any = [](std::size_t, std::size_t) { return true; };
  const std::vector<int> greedy = best_fit(room, times, any);
  EXPECT_EQ(greedy, (std::vector<int>{0, 1, 0}));
  const std::vector<GapItem> items{{9, 0, 1}, {4, 0, 1}, {2, 0, 1}};
  EXPECT_EQ(filled(room, items, greedy), 14);
  const GapFilling best = fill_gaps(room, items);
  EXPECT_EQ(best.filled, 15);
  EXPECT_TRUE(best.optimal());
}

// A gap may be filled beyond its room; what comes late fits only late gaps.
TEST(WeightGaps, GapsLieInARow) {
  const GapFilling best = fill_gaps({5, 5}, {{3, 0, 1}, {3, 0, 1}, {4, 1, 1}});
  EXPECT_EQ(best.filled, 9);  // 3 + 3 of 5, then 4
  EXPECT_EQ(best.gap[2], 1);
  EXPECT_EQ(best.bound, 10);
  EXPECT_EQ(fill_gaps({5, 5}, {{9, 0, 0}}).filled, 5);
  EXPECT_EQ(fill_gaps({5}, {{9, 1, 0}}).filled, 0);
  EXPECT_EQ(fill_gaps({}, {{9, 0, -1}}).bound, 0);
}

TEST(WeightGaps, EveryFillingIsWithinTheBound) {
  std::mt19937 random(7);
  int equal = 0;
  constexpr int kCases = 300;
  for (int n = 0; n < kCases; ++n) {
    std::vector<Picoseconds> room(1 + random() % 3);
    for (Picoseconds& r : room) r = 1 + random() % 20;
    std::vector<GapItem> items(1 + random() % 6);
    for (GapItem& i : items) {
      i.time = 1 + random() % 12;
      i.first = static_cast<int>(random() % room.size());
      i.last = static_cast<int>(room.size()) - 1 - static_cast<int>(random() % 4 == 0);
    }
    const GapFilling got = fill_gaps(room, items);
    EXPECT_EQ(filled(room, items, got.gap), got.filled);
    const Picoseconds best = best_of_all(room, items);
    EXPECT_GE(best, got.filled);
    EXPECT_LE(best, got.bound);
    equal += best == got.filled ? 1 : 0;
  }
  EXPECT_GT(equal, kCases * 95 / 100);
}

// Layers alike of a large model, 100 gaps and 400 items: within 0.1 % of the bound.
TEST(WeightGaps, ManyLayersAlike) {
  std::vector<Picoseconds> room;
  std::vector<GapItem> items;
  for (int j = 0; j < 100; ++j) {
    room.push_back(j % 2 == 0 ? 400'000'000 : 380'000'000);
    for (const Picoseconds time : {173'000'001, 91'000'003, 57'000'007, 121'000'009})
      items.push_back({time, j, 99});
  }
  const GapFilling got = fill_gaps(room, items);
  EXPECT_GT(got.filled, got.bound - got.bound / 1000);
}

}  // namespace
}  // namespace steploom
