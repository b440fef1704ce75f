// Measured sizes and times of collectives as curves of a profile.
#include "profiler/import_curves.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "sim/collective_model.h"

namespace steploom {
namespace {

class ImportCurves : public ::testing::Test {
 protected:
  double us(int ranks, int nodes, Bytes bytes) const {
    const Cluster cluster = load_cluster("h200-sxm-141gb", 4);
    return 1e6 * CollectiveModel(profile_, cluster)
                     .time(OpKind::all_gather, bytes, {ranks, nodes, ranks / nodes})
                     .seconds;
  }
  Profile profile_ = built_in_profile("h200-sxm-141gb");
};

TEST_F(ImportCurves, EveryMeasuredSizeKeepsItsTime) {
  const std::vector<double> bytes{1024, 65536, 1 << 20, 1 << 28}, us_{20, 30.5, 61.25, 4000};
  const LaidCurve laid = lay_curve(profile_, {OpKind::all_gather, 16, 2, bytes, us_, "here"});
  EXPECT_EQ(laid.joined, 0);
  EXPECT_FALSE(laid.replaced);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    EXPECT_NEAR(us(16, 2, static_cast<Bytes>(bytes[i])) / us_[i], 1, 4e-4);
  // In proportion to bytes above, constant below.
  EXPECT_NEAR(us(16, 2, 1 << 29) / 8000, 1, 4e-4);
  EXPECT_NEAR(us(16, 2, 16) / 20, 1, 4e-4);
  // The profile is still one that a reader takes.
  EXPECT_EQ(to_json(parse_profile(to_json(profile_), "again")), to_json(profile_));
}

// 40 and 10 are joined at their geometric mean, 20.
TEST_F(ImportCurves, FallingNeighboursAreJoinedAndTold) {
  const LaidCurve laid = lay_curve(
      profile_, {OpKind::all_gather, 16, 2, {1024, 2048, 4096, 8192}, {5, 40, 10, 80}, "here"});
  EXPECT_EQ(laid.joined, 2);
  EXPECT_NEAR(laid.most_moved, 1, 1e-9);  // 10 became 20
  EXPECT_NEAR(us(16, 2, 2048), 20, 0.02);
  EXPECT_NEAR(us(16, 2, 4096), 20, 0.02);
  EXPECT_NEAR(us(16, 2, 8192), 80, 0.05);
}

TEST_F(ImportCurves, TheProfilesOwnCurveIsReplaced) {
  const std::size_t before = profile_.collectives.size();
  EXPECT_TRUE(lay_curve(profile_, {OpKind::all_gather, 8, 1, {1024, 2048}, {7, 9}, "x"}).replaced);
  EXPECT_EQ(profile_.collectives.size(), before);
  EXPECT_NEAR(us(8, 1, 2048), 9, 0.01);
}

}  // namespace
}  // namespace steploom
