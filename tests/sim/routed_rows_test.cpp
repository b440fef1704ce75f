#include "sim/routed_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace steploom {
namespace {

using testing::ElementsAre;

Routing recorded(std::vector<std::int64_t> tokens) {
  Routing r;
  r.law = RoutingLaw::recorded;
  r.recorded = {{0, {std::move(tokens)}}};
  return r;
}

Routing law(RoutingLaw kind, double parameter) {
  Routing r;
  r.law = kind;
  r.parameter = parameter;
  return r;
}

constexpr std::uint64_t kOne = std::uint64_t{1} << kShareBits;

TEST(RunningShares, AreInProportion) {
  EXPECT_THAT(running_shares(std::vector<double>{1, 1, 2}, 1),
              ElementsAre(kOne / 4, kOne / 2, kOne));
}

// Of two choices a token, one expert can have no more than every token once: half the rows.
TEST(RunningShares, NoExpertTwiceAToken) {
  EXPECT_THAT(running_shares(std::vector<double>{1, 97, 1, 1}, 2),
              ElementsAre((kOne + 5) / 6, (4 * kOne + 5) / 6, (5 * kOne + 5) / 6, kOne));
  // Fewer experts with weight than choices: the second choice is spread evenly.
  EXPECT_THAT(running_shares(std::vector<double>{5, 0, 0}, 2),
              ElementsAre(kOne / 2, 3 * kOne / 4, kOne));
}

// Sixteen rows of each source, two an expert; the even exchange of even rows is what is sent.
TEST(RoutedRows, EvenSharesGiveEvenRows) {
  const std::vector<int> nodes{0, 0, 1, 1};
  const RoutedRows rows = routed_rows(recorded({3, 3, 3, 3, 3, 3, 3, 3}), 8, 2, 8, nodes, {});
  EXPECT_THAT(rows.sent, testing::Each(2));
  EXPECT_EQ(rows.to(3, 0), 4);
  EXPECT_EQ(even_exchange(rows, nodes).inside, 16);
  EXPECT_EQ(even_exchange(rows, nodes).outside, 16);
  const std::vector<int> one(4, 0);
  EXPECT_EQ(even_exchange(rows, one).inside, 16);
  EXPECT_EQ(even_exchange(rows, one).outside, 0);
  // 60 experts, four of them chosen: shares that no power of two divides.
  const RoutedRows sixty =
      routed_rows(recorded(std::vector<std::int64_t>(60, 7)), 60, 4, 150, nodes, {});
  EXPECT_THAT(sixty.sent, testing::Each(10));
}

// Two ranks of two experts, 8 tokens each that choose one: both send 6, 1, 1, 0. Rank 0 keeps 7 and
// sends 1, rank 1 keeps 1 and sends 7: seven times two ranks over the one peer is an even exchange
// of 14 rows.
TEST(RoutedRows, ByHand) {
  const std::vector<int> nodes{0, 1};
  const RoutedRows rows = routed_rows(recorded({6, 1, 1, 0}), 4, 1, 8, nodes, {});
  EXPECT_THAT(rows.sent, ElementsAre(6, 1, 1, 0, 6, 1, 1, 0));
  EXPECT_THAT(rows.received(), ElementsAre(12, 2, 2, 0));
  EXPECT_EQ(rows.to(0, 0), 7);
  EXPECT_EQ(rows.to(1, 1), 1);
  EXPECT_EQ(even_exchange(rows, nodes).outside, 14);
  EXPECT_EQ(even_exchange(rows, nodes).inside, 0);
  const std::vector<int> one{0, 0};
  EXPECT_EQ(even_exchange(rows, one).inside, 14);
}

// Sources start at other fractions of a row, so that what one rounds down another rounds up.
TEST(RoutedRows, RoundingEvensOutOverSources) {
  const std::vector<int> nodes(4, 0);
  const RoutedRows rows = routed_rows(recorded({1, 1, 1, 1, 1, 1, 1, 1}), 8, 1, 2, nodes, {});
  EXPECT_THAT(rows.received(), testing::Each(1));
}

// Capacity ⌈8·1.5/4⌉ = 3: each source drops 3 of its 6 rows for the first expert.
TEST(RoutedRows, CapacityCutsRows) {
  Routing r = recorded({6, 1, 1, 0});
  r.capacity = 1.5;
  const RoutedRows rows = routed_rows(r, 4, 1, 8, std::vector<int>{0, 1}, {});
  EXPECT_THAT(rows.sent, ElementsAre(3, 1, 1, 0, 3, 1, 1, 0));
  EXPECT_EQ(rows.dropped, 6);
}

// Two nodes of two ranks, two experts a rank, four choices: a source sends 8 rows to each rank. On
// one node only, a token leaves its node half the time: 4 copies of 8 tokens a source, 8 a node,
// for 32 rows without the limit. Over NVLink a rank sends 8 rows of its own and passes on 8 of the
// 16 that its peer on the other node sent: 16, as in an even exchange of 64.
TEST(RoutedRows, NodeLimitSendsARowOnceANode) {
  const std::vector<int> nodes{0, 0, 1, 1};
  Routing r = recorded(std::vector<std::int64_t>(8, 1));
  EXPECT_EQ(even_exchange(routed_rows(r, 8, 4, 8, nodes, {}), nodes).outside, 32);
  r.nodes = 1;
  const RoutedRows rows = routed_rows(r, 8, 4, 8, nodes, {});
  EXPECT_THAT(rows.copies, ElementsAre(0, 4, 0, 4, 4, 0, 4, 0));
  EXPECT_EQ(even_exchange(rows, nodes).outside, 8);
  EXPECT_EQ(even_exchange(rows, nodes).inside, 64);
  r.nodes = 2;
  EXPECT_EQ(even_exchange(routed_rows(r, 8, 4, 8, nodes, {}), nodes).outside, 16);
}

// Whatever the draw: rows sent are rows received are tokens times choices less drops, no expert has
// more than a row a token, and the busiest link has no less than the mean.
TEST(RoutedRows, SumsHoldForEveryDraw) {
  const std::vector<int> nodes{0, 0, 0, 1, 1, 1, 2, 2};
  for (const Routing& of : {law(RoutingLaw::power_law, 1.2), law(RoutingLaw::power_law, 1),
                            law(RoutingLaw::log_normal, 0.8), law(RoutingLaw::log_normal, 3)})
    for (const double capacity : {0.0, 1.25})
      for (int sample = 0; sample < 5; ++sample) {
        Routing r = of;
        r.capacity = capacity;
        const RoutedRows rows = routed_rows(r, 32, 4, 1000, nodes, {sample, 3, sample * 7});
        const std::vector<std::int64_t> in = rows.received();
        EXPECT_EQ(std::accumulate(in.begin(), in.end(), std::int64_t{0}),
                  8 * 1000 * 4 - rows.dropped);
        EXPECT_EQ(rows.dropped == 0, capacity == 0);
        EXPECT_LE(*std::max_element(rows.sent.begin(), rows.sent.end()),
                  capacity > 0 ? 157 : 1000);  // ⌈4000·1.25/32⌉
        EXPECT_GE(*std::min_element(rows.sent.begin(), rows.sent.end()), 0);
        if (capacity > 0) continue;
        EXPECT_GE(even_exchange(rows, nodes).inside, 4000);
        EXPECT_GE(even_exchange(rows, nodes).outside, 4000);
      }
}

// The same on every machine: the figures are of the generator and the logarithms here.
TEST(RoutedRows, DrawsAreFixed) {
  const std::vector<int> nodes{0, 0};
  const auto draw = [&](const Routing& r, const RoutingDraw& d) {
    return routed_rows(r, 8, 2, 4096, nodes, d).received();
  };
  const Routing power = law(RoutingLaw::power_law, 1.2);
  EXPECT_THAT(draw(power, {0, 3, 5}), ElementsAre(99, 47, 472, 7518, 1601, 5570, 264, 813));
  EXPECT_THAT(draw(law(RoutingLaw::log_normal, 0.8), {0, 3, 5}),
              ElementsAre(1132, 2387, 2817, 2489, 2982, 1074, 1385, 2118));
  Routing other = power;
  other.seed = 2;
  EXPECT_NE(draw(power, {0, 3, 5}), draw(other, {0, 3, 5}));
  EXPECT_NE(draw(power, {0, 3, 5}), draw(power, {1, 3, 5}));
  EXPECT_NE(draw(power, {0, 3, 5}), draw(power, {0, 4, 5}));
  EXPECT_NE(draw(power, {0, 3, 5}), draw(power, {0, 3, 6}));
}

}  // namespace
}  // namespace steploom
