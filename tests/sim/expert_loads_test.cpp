#include "sim/expert_loads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace steploom {
namespace {

double sum(const std::vector<double>& v) {
  return std::accumulate(v.begin(), v.end(), 0.0);
}

TEST(ExpertLoads, BalancedRoutingSharesEvenly) {
  EXPECT_EQ(slowest_rank_rows(8192, 4096, 64, 8, 0), 1024);
  for (const double load : power_law_loads(1024, 8, 0)) EXPECT_DOUBLE_EQ(load, 128);
}

TEST(ExpertLoads, LoadsSumToTheRows) {
  for (const double skew : {0.5, 1.0, 1.01, 1.2, 2.0})
    for (const int groups : {1, 2, 8, 32, 64, 256}) {
      const std::vector<double> loads = power_law_loads(4096, groups, skew);
      EXPECT_EQ(loads.size(), static_cast<std::size_t>(std::min(groups, kMostLoads)));
      EXPECT_TRUE(std::is_sorted(loads.begin(), loads.end()));
      const double each = static_cast<double>(groups) / static_cast<double>(loads.size());
      EXPECT_NEAR(sum(loads) * each, 4096, 1e-6) << skew << " " << groups;
    }
}

// At α = 1 the weights are 1 to R in equal ratios: with two groups R^(1/4) and R^(3/4).
TEST(ExpertLoads, AtOneTheLawIsLogUniform) {
  const std::vector<double> loads = power_law_loads(10000, 2, 1);
  EXPECT_NEAR(loads[1] / loads[0], 100, 1e-6);
  // And it is no special case: its neighbours are near.
  EXPECT_NEAR(power_law_loads(10000, 2, 1.0001)[1], loads[1], 1);
}

TEST(ExpertLoads, TheSlowestRankHasMoreThanItsShare) {
  const double rows = 65536, tokens = 8192;
  double before = 1;
  for (const int ranks : {1, 2, 8, 32, 64}) {
    const double most = slowest_rank_rows(rows, tokens, 64, ranks, 1.2) / (rows / ranks);
    EXPECT_GE(most, before);  // fewer experts a rank even out less
    EXPECT_LE(most, ranks);   // nobody has more than all
    before = most;
  }
  EXPECT_GT(before, 2);
  // The same on every machine: draws have fixed seeds.
  EXPECT_EQ(slowest_rank_rows(rows, tokens, 64, 8, 1.2),
            slowest_rank_rows(rows, tokens, 64, 8, 1.2));
}

}  // namespace
}  // namespace steploom
