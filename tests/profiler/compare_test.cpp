// A cost model against points whose error is known.
#include "profiler/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "sim/cluster.h"
#include "sim/profile.h"

namespace steploom {
namespace {

class Compare : public ::testing::Test {
 protected:
  // A point that took `factor` times what the model says.
  MeasuredPoint point(const std::string& text, double factor) const {
    const Ask ask = parse_asks(text, "test")[0];
    const double us = static_cast<double>(model_.cost({ask.work, {}}).time) * 1e-6 * factor;
    return {ask, {us, us, us, 10, 0, 0}, "", 0, ""};
  }
  static ClassError find(const Comparison& all, const std::string& what) {
    const auto found = std::find_if(all.classes.begin(), all.classes.end(),
                                    [&](const ClassError& c) { return c.what == what; });
    return found == all.classes.end() ? ClassError{} : *found;
  }

  Profile profile_ = built_in_profile("h200-sxm-141gb");
  Cluster cluster_ = load_cluster("h200-sxm-141gb", 1);
  CostModel model_{profile_, cluster_};
};

TEST_F(Compare, AnExactModelHasNoError) {
  const auto all =
      compare_points({point("matmul forward 4096 4096 4096 1 even cublaslt", 1)}, model_);
  EXPECT_EQ(find(all, "matmul forward").points, 1);
  EXPECT_NEAR(find(all, "matmul forward").worst, 0, 1e-9);
}

TEST_F(Compare, ErrorsAreRelativeToTheMeasurementAndSigned) {
  // Twice as slow as predicted: −50 %. A quarter faster: +33 %.
  const auto all = compare_points({point("norm forward 8192 4096 0 1 even steploom-rms", 2),
                                   point("norm forward 8192 8192 0 1 even steploom-rms", 2),
                                   point("norm forward 4096 8192 0 1 even steploom-rms", 0.75)},
                                  model_);
  const ClassError error = find(all, "norm forward");
  EXPECT_EQ(error.points, 3);
  EXPECT_NEAR(error.bias, -0.5, 1e-9);
  EXPECT_NEAR(error.median, 0.5, 1e-9);
  EXPECT_NEAR(error.worst, 0.5, 1e-9);
  EXPECT_EQ(find(all, "all memory").points, 3);
}

TEST_F(Compare, OfGroupedProductsTheFastestCounts) {
  const std::string shape = "grouped_matmul forward 8192 28672 4096 8 even ";
  const std::vector<MeasuredPoint> points{point(shape + "cublas-grouped", 1.25),
                                          point(shape + "cublaslt-each", 1.5)};
  const auto all = compare_points(points, model_);
  EXPECT_EQ(find(all, "grouped_matmul forward").points, 1);
  EXPECT_NEAR(find(all, "grouped_matmul forward").median, 0.2, 1e-9);
  const auto wins = provider_wins(points);
  ASSERT_EQ(wins.size(), 2U);
  EXPECT_EQ(wins[0].provider, "cublas-grouped");
  EXPECT_EQ(wins[0].fastest, 1);
  EXPECT_EQ(wins[1].fastest, 0);
  EXPECT_NEAR(wins[1].median_slower, 0.2, 1e-9);
}

TEST_F(Compare, UnevenExpertsStandApartAndSkippedPointsAreCounted) {
  MeasuredPoint skipped = point("residual forward 8192 4096 0 1 even steploom", 1);
  skipped.stats.samples = 0;
  skipped.note = "skipped: out of memory";
  const auto all = compare_points(
      {point("grouped_matmul forward 8192 28672 4096 8 uneven cublas-grouped", 2), skipped},
      model_);
  EXPECT_EQ(all.skipped, 1);
  EXPECT_EQ(find(all, "grouped_matmul forward").points, 0);
  EXPECT_EQ(find(all, "grouped_matmul forward uneven").points, 1);
}

}  // namespace
}  // namespace steploom
