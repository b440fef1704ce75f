#include "profiler/fit_corrections.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/shapes.h"
#include "sim/cost_model.h"

namespace steploom {
namespace {

class FitCorrections : public ::testing::Test {
 protected:
  FitCorrections()
      : profile_(built_in_profile("h200-sxm-141gb")), cluster_(load_cluster("h200-sxm-141gb", 1)) {
    fit_corrections(profile_, cluster_, {});  // as before any measurement
  }
  double us(const Work& w) const {
    return static_cast<double>(CostModel(profile_, cluster_).cost({w, GroupShape{}}).time) * 1e-6;
  }
  void measure(const Work& w, double us, const char* provider = "cublaslt", bool uneven = false) {
    MeasuredPoint p;
    p.ask.work = w;
    p.ask.provider = provider;
    p.ask.uneven = uneven;
    p.stats.median_us = us;
    p.stats.samples = 9;
    points_.push_back(p);
  }
  Profile profile_;
  Cluster cluster_;
  std::vector<MeasuredPoint> points_;
};

Work gradient(std::int64_t tokens, std::int64_t n, std::int64_t k) {
  return product(Phase::weight_grad, Precision::bf16, tokens, n, k);
}

// Measurements 30 % above the profile everywhere: the correction says so for shapes between them,
// and leaves other phases alone.
TEST_F(FitCorrections, FindAConstantFactor) {
  for (const std::int64_t tokens : {2048, 4096, 8192, 16384})
    for (const std::int64_t n : {1024, 4096, 14336})
      for (const std::int64_t k : {2048, 8192}) {
        const Work w = gradient(tokens, n, k);
        measure(w, 1.3 * us(w));
      }
  const Work unseen = gradient(6000, 3000, 5000);
  const Work forward = product(Phase::forward, Precision::bf16, 6000, 3000, 5000);
  const double before = us(unseen), untouched = us(forward);
  fit_corrections(profile_, cluster_, points_);
  ASSERT_EQ(profile_.corrections.size(), 1U);
  EXPECT_NEAR(us(unseen) / before, 1.3, 0.01);
  EXPECT_EQ(us(forward), untouched);
  const auto row =
      std::find_if(profile_.leave_out.begin(), profile_.leave_out.end(),
                   [](const LeaveOut& l) { return l.what == "hot card: matmul weight_grad, all"; });
  ASSERT_NE(row, profile_.leave_out.end());
  EXPECT_EQ(row->points, 24);
  EXPECT_LT(row->median, 0.01);
}

// A kernel whose bandwidth grows with its size: the error left is far below the one found.
TEST_F(FitCorrections, FollowATrendInBytes) {
  const auto norm = [](Bytes bytes) {
    return streaming(OpKind::norm, Phase::forward, Precision::bf16, bytes / 16384, 4096, bytes);
  };
  for (int octave = 20; octave <= 31; ++octave) {
    const Work w = norm(Bytes{1} << octave);
    measure(w, us(w) * (1.5 - 0.05 * (octave - 20)));
  }
  const Work unseen = norm(3 << 24);
  const double before = us(unseen);
  fit_corrections(profile_, cluster_, points_);
  EXPECT_NEAR(us(unseen) / before, 1.5 - 0.05 * (24 + std::log2(3.0) - 20), 0.03);
}

// The fastest provider of a shape counts, uneven experts and skipped points do not.
TEST_F(FitCorrections, TakeTheFastestProviderAndEvenExperts) {
  for (const std::int64_t tokens : {2048, 4096, 8192, 16384, 32768, 65536}) {
    const Work w = grouped_product(Phase::forward, Precision::bf16, 8, tokens, 14336, 4096);
    measure(w, 2.0 * us(w), "cublas-grouped");
    measure(w, 1.2 * us(w), "cublaslt-each");
    measure(w, 0.1 * us(w), "cublaslt-each", true);
    points_.push_back(points_.back());
    points_.back().ask.uneven = false;
    points_.back().stats = {};
  }
  const Work unseen = grouped_product(Phase::forward, Precision::bf16, 8, 12000, 14336, 4096);
  const double before = us(unseen);
  fit_corrections(profile_, cluster_, points_);
  EXPECT_NEAR(us(unseen) / before, 1.2, 0.01);
}

// Attention is corrected by phase and by the width of its heads.
TEST_F(FitCorrections, AttentionByPhaseAndWidth) {
  const auto attention = [](Phase phase, std::int64_t tokens, int heads, int width, int v_width) {
    return causal_attention(phase, Precision::bf16, {tokens, 1, heads, heads, width, v_width});
  };
  for (const std::int64_t tokens : {1024, 2048, 4096, 8192})
    for (const int heads : {8, 16, 32})
      for (const int width : {64, 128, 192}) {
        const int v_width = std::min(width, 128);
        const Work forward = attention(Phase::forward, tokens, heads, width, v_width);
        const Work backward = attention(Phase::data_grad, tokens, heads, width, v_width);
        measure(forward, us(forward) * (width == 64 ? 1.4 : 1.1), "cudnn");
        measure(backward, us(backward) * (width == 192 ? 0.7 : 1.2), "cudnn");
      }
  const Work small = attention(Phase::forward, 3000, 12, 64, 64);
  const Work large = attention(Phase::forward, 3000, 12, 128, 128);
  const Work latent = attention(Phase::data_grad, 3000, 12, 192, 128);
  const double small_us = us(small), large_us = us(large), latent_us = us(latent);
  fit_corrections(profile_, cluster_, points_);
  EXPECT_NEAR(us(small) / small_us, 1.4, 0.02);
  EXPECT_NEAR(us(large) / large_us, 1.1, 0.02);
  EXPECT_NEAR(us(latent) / latent_us, 0.7, 0.02);
  const auto row =
      std::find_if(profile_.leave_out.begin(), profile_.leave_out.end(), [](const LeaveOut& l) {
        return l.what == "hot card: attention data_grad, head width 192 and 128, all";
      });
  ASSERT_NE(row, profile_.leave_out.end());
  EXPECT_EQ(row->points, 12);
}

TEST_F(FitCorrections, NeedEnoughPointsAndReplaceEarlierOnes) {
  measure(gradient(4096, 4096, 4096), 1000);
  profile_.corrections.push_back(
      {OpKind::norm, Phase::forward, {{make_axis("bytes", {1e6})}, {100}}});
  const auto rows = profile_.leave_out.size();
  profile_.leave_out.push_back({"hot card: norm, all", 9, 0.1, 0.2, 0.3});
  fit_corrections(profile_, cluster_, points_);
  EXPECT_TRUE(profile_.corrections.empty());
  EXPECT_EQ(profile_.leave_out.size(), rows);
}

}  // namespace
}  // namespace steploom
