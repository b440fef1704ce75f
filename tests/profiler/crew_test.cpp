#include "profiler/crew.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace steploom {
namespace {

TEST(Crew, AgreesOnTheLargestValue) {
  Crew crew(3, 60, 60, "points.jsonl");
  std::vector<double> agreed(3);
  {
    std::vector<std::jthread> ranks;
    for (int rank = 0; rank < 3; ++rank) {
      ranks.emplace_back([&, rank] {
        crew.most(rank, -rank);
        agreed[static_cast<std::size_t>(rank)] = crew.most(rank, 10 * rank);
      });
    }
  }
  EXPECT_EQ(agreed, (std::vector<double>{20, 20, 20}));
}

TEST(Crew, SpendsItsBudgetTogether) {
  Crew crew(1, 60, 3600, "points.jsonl");
  EXPECT_FALSE(crew.out_of_time(0));
  Crew late(1, 60, 0, "points.jsonl");
  EXPECT_TRUE(late.out_of_time(0));
}

// Rank 1 never comes: rank 0 alone would wait for ever.
TEST(CrewDeathTest, EndsTheRunIfARankHangs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        Crew crew(2, 0.3, 60, "points.jsonl");
        crew.doing("all_reduce of 1024 bytes");
        crew.most(0, 1);
      },
      ::testing::ExitedWithCode(1),
      "a rank has not come back.*all_reduce of 1024 bytes.*is in points.jsonl");
}

}  // namespace
}  // namespace steploom
