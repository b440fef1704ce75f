#include "models/stages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include "models/layout.h"
#include "tests/models/refusal.h"

namespace steploom {
namespace {

using Split = std::vector<int>;

// Strings in use with Megatron-Core (DeepSeek-V3 on 1024 and 2048 devices), without their MTP
// stage.
TEST(Stages, ReadsMegatronsLayouts) {
  EXPECT_EQ(parse_stages("Ett|ttt|tL"), (Split{2, 3, 1}));
  EXPECT_EQ(parse_stages("E||t|L"), (Split{0, 0, 1, 0}));
  EXPECT_EQ(parse_stages("Et*3|t*2 , t|L"), (Split{3, 3, 0}));
  Split dsv3(32, 2);
  dsv3.front() = dsv3.back() = 1;
  EXPECT_EQ(parse_stages("Et|(tt|)*30tL"), dsv3);
  Split wide(32, 2);
  wide.front() = 3;
  wide.back() = 0;
  EXPECT_EQ(parse_stages("Et*3|(tt|)*30,L"), wide);
  EXPECT_EQ(parse_stages("EtL"), (Split{1}));
}

TEST(Stages, RefusesWhatIsNoLayout) {
  for (const char* text : {"", "tt|L", "Ett", "EtLt", "EEt|L", "Et|xL", "Et|(tt|*2L", "E*|L",
                           "E(t))L", "Et*99999999999|L", "E((t)*2)*2L", "E(t*9999|)*9999L"})
    EXPECT_THROW(parse_stages(text), Error) << text;
  const auto mtp = refusal([] { parse_stages("Et|tmL"); });
  EXPECT_THAT(mtp.hint, testing::HasSubstr("multi-token prediction"));
}

TEST(Stages, TextReadsBack) {
  EXPECT_EQ(stages_text({3, 2, 2, 2, 1}), "Et*3|(tt|)*3tL");
  EXPECT_EQ(stages_text({0, 0, 1, 0}), "E||t|L");
  EXPECT_EQ(stages_text({4}), "Et*4L");
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    Split split(1 + random() % 40);
    for (int& n : split) n = static_cast<int>(random() % 4);
    if (random() % 2 == 0) std::sort(split.begin(), split.end());
    EXPECT_EQ(parse_stages(stages_text(split)), split) << stages_text(split);
    Layout l;
    l.pp = static_cast<int>(split.size());
    l.stages = split;
    l.vpp = 1 + static_cast<int>(random() % 3);
    l.vpp_group = static_cast<int>(random() % 3);
    EXPECT_EQ(parse_layout(to_text(l), l.pp, false), l) << to_text(l);
  }
}

// num_layers + embedding + loss over the stages, each counted as a layer where asked for.
TEST(Stages, MegatronsEvenSplits) {
  EXPECT_EQ(even_stages(8, 4, false, false), (Split{2, 2, 2, 2}));
  EXPECT_EQ(even_stages(7, 4, true, false), (Split{1, 2, 2, 2}));
  EXPECT_EQ(even_stages(7, 4, false, true), (Split{2, 2, 2, 1}));
  EXPECT_EQ(even_stages(126, 16, true, true),
            (Split{7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7}));
  EXPECT_TRUE(even_stages(7, 4, false, false).empty());
  EXPECT_EQ(stages_between(61, 16, 4, 1), (Split{4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 1}));
  EXPECT_EQ(stages_between(10, 4, 0, 1), (Split{3, 3, 3, 1}));
  EXPECT_TRUE(stages_between(10, 4, 3, 0).empty());
}

double least_of_all(const std::vector<double>& cost, double embedding, double head, int stages) {
  double least = std::numeric_limits<double>::infinity();
  Split split(static_cast<std::size_t>(stages));
  const std::function<void(std::size_t, int)> go = [&](std::size_t s, int left) {
    if (s + 1 == split.size()) {
      split[s] = left;
      least = std::min(least, largest_stage(split, cost, embedding, head));
      return;
    }
    for (int n = 1; left - n >= stages - static_cast<int>(s) - 1; ++n) {
      split[s] = n;
      go(s + 1, left - n);
    }
  };
  go(0, static_cast<int>(cost.size()));
  return least;
}

// Against every split there is.
TEST(Stages, BalancedSplitsHaveTheLeastLargestStage) {
  std::mt19937 random(11);
  for (int i = 0; i < 120; ++i) {
    std::vector<double> cost(3 + random() % 8);
    for (double& c : cost) c = 1 + static_cast<double>(random() % 4);
    const double embedding = static_cast<double>(random() % 3);
    const double head = static_cast<double>(random() % 7);
    const int stages = 2 + static_cast<int>(random() % (cost.size() - 1));
    const Split split = balanced_stages(cost, embedding, head, stages);
    ASSERT_EQ(static_cast<int>(split.size()), stages);
    EXPECT_EQ(std::accumulate(split.begin(), split.end(), 0), static_cast<int>(cost.size()));
    EXPECT_GE(*std::min_element(split.begin(), split.end()), 1);
    EXPECT_DOUBLE_EQ(largest_stage(split, cost, embedding, head),
                     least_of_all(cost, embedding, head, stages));
  }
}

// A head that costs two layers takes two layers off the last stage.
TEST(Stages, TheHeadCountsInTheBalance) {
  const std::vector<double> alike(14, 1.0);
  EXPECT_EQ(balanced_stages(alike, 0, 2, 4), (Split{4, 4, 4, 2}));
  EXPECT_EQ(balanced_stages(std::vector<double>(10, 1.0), 0, 0, 4), (Split{2, 2, 3, 3}));
}

}  // namespace
}  // namespace steploom
