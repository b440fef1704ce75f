#include "profiler/fit_score.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace steploom {
namespace {

TEST(FitScore, ScattersPointsEvenly) {
  const Folds folds = scattered_folds(10000);
  for (int fold = 0; fold < 10; ++fold) {
    const auto n = std::count(folds.begin(), folds.end(), fold);
    EXPECT_GT(n, 800) << fold;
    EXPECT_LT(n, 1200) << fold;
  }
}

TEST(FitScore, LeavesWholeValuesOut) {
  EXPECT_EQ(folds_by_value({4, 1, 2, 8, 2, 1}), (Folds{1, -1, 0, -1, 0, -1}));
}

// Each point is predicted by the fit that has not seen it.
TEST(FitScore, TakesEachPredictionFromItsOwnFold) {
  const Folds folds{0, 1, -1, 2, 1};
  const std::vector<double> predicted =
      leave_out(folds, [](int fold) { return std::vector<double>(5, 10.0 + fold); });
  EXPECT_EQ(predicted, (std::vector<double>{10, 11, 0, 12, 11}));
}

TEST(FitScore, CountsRelativeErrors) {
  std::vector<double> measured(100, 100.0), predicted;
  for (int i = 0; i < 100; ++i) predicted.push_back(100.0 + (i % 2 == 0 ? i : -i));
  const LeaveOut all = score("x", measured, predicted);
  EXPECT_EQ(all.points, 100);
  EXPECT_NEAR(all.median, 0.50, 1e-12);
  EXPECT_NEAR(all.p95, 0.95, 1e-12);
  EXPECT_NEAR(all.worst, 0.99, 1e-12);
  std::vector<bool> first_ten(100, false);
  std::fill_n(first_ten.begin(), 10, true);
  EXPECT_NEAR(score("x", measured, predicted, first_ten).worst, 0.09, 1e-12);
}

}  // namespace
}  // namespace steploom
