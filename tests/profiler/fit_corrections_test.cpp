#include "profiler/fit_corrections.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/shapes.h"
#include "sim/correction_base.h"
#include "sim/cost_model.h"

namespace steploom {
namespace {

class FitCorrections : public ::testing::Test {
 protected:
  FitCorrections()
      : profile_(built_in_profile("h200-sxm-141gb")), cluster_(load_cluster("h200-sxm-141gb", 1)) {
    clear_corrections(profile_);  // as before any measurement
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
  static Work attention(Phase phase, std::int64_t tokens, int heads, int width) {
    return causal_attention(phase, Precision::bf16,
                            {tokens, 1, heads, heads, width, std::min(width, 128)});
  }
  static double truth(const Work& w) {
    const double tera = w.head_dim == 64 ? 350 : w.head_dim == 128 ? 550 : 450;
    return 10 + w.flops / (tera * 1e6) * (w.phase == Phase::forward ? 1 : 1.2);
  }
  void measure_attention(const std::vector<int>& widths, double factor = 1) {
    for (const std::int64_t tokens : {1024, 2048, 4096, 8192, 16384})
      for (const int heads : {8, 16, 32, 64})
        for (const int width : widths)
          for (const Phase phase : {Phase::forward, Phase::data_grad}) {
            const Work w = attention(phase, tokens, heads, width);
            measure(w, factor * truth(w), "cudnn");
          }
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
  const Work unseen = gradient(6000, 3072, 5120);  // in whole tiles, as those
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

// RMSNorm and LayerNorm are an octave apart on k, and kernels of their own.
TEST_F(FitCorrections, TwoKindsOfNormsAreToldApart) {
  const auto norm = [](std::int64_t rows, std::int64_t statistics) {
    Work w = streaming(OpKind::norm, Phase::forward, Precision::bf16, rows, 4096, rows * 16384);
    w.k = statistics;
    return w;
  };
  for (std::int64_t rows = 256; rows <= 65536; rows *= 2) {
    measure(norm(rows, 1), us(norm(rows, 1)), "steploom-rms");
    measure(norm(rows, 2), 1.4 * us(norm(rows, 2)), "steploom-layer");
  }
  const double before = us(norm(3000, 1));
  fit_corrections(profile_, cluster_, points_);
  EXPECT_NEAR(us(norm(3000, 1)) / before, 1, 0.02);
  EXPECT_NEAR(us(norm(3000, 2)) / before, 1.4, 0.02);
}

// The fastest provider of a shape counts, uneven experts and skipped points do not.
TEST_F(FitCorrections, TakeTheFastestProviderAndEvenExperts) {
  for (const std::int64_t tokens : {2048, 4096, 8192, 16384, 32768, 65536}) {
    const Work w = grouped_product(Phase::forward, Precision::bf16, 8, tokens, 14336, 4096);
    const double base = 1e6 * grouped_base(profile_, w);
    measure(w, 2.0 * base, "cublas-grouped");
    measure(w, 1.2 * base, "cublaslt-each");
    measure(w, 0.1 * base, "cublaslt-each", true);
    points_.push_back(points_.back());
    points_.back().ask.uneven = false;
    points_.back().stats = {};
  }
  const Work unseen = grouped_product(Phase::forward, Precision::bf16, 8, 12000, 14336, 4096);
  fit_corrections(profile_, cluster_, points_);
  EXPECT_NEAR(us(unseen) / (1e6 * grouped_base(profile_, unseen)), 1.2, 0.01);
}

// Attention of 10 µs and a rate that differs with phase and width: found for shapes between those
// that were measured.
TEST_F(FitCorrections, AttentionByPhaseAndWidth) {
  measure_attention({64, 128, 192});
  fit_corrections(profile_, cluster_, points_);
  for (const int width : {64, 128, 192})
    for (const Phase phase : {Phase::forward, Phase::data_grad}) {
      const Work unseen = attention(phase, 6000, 24, width);
      EXPECT_NEAR(us(unseen) / truth(unseen), 1, 0.05) << width << ' ' << name_of(phase);
    }
  const auto row =
      std::find_if(profile_.leave_out.begin(), profile_.leave_out.end(), [](const LeaveOut& l) {
        return l.what == "hot card: attention data_grad, head width 192 and 128, all";
      });
  ASSERT_NE(row, profile_.leave_out.end());
  EXPECT_EQ(row->points, 20);
}

// Points of some widths replace what is known of these and leave the others as they were.
TEST_F(FitCorrections, AttentionOfAWidthReplacesThatWidthAlone) {
  measure_attention({64, 128});
  fit_corrections(profile_, cluster_, points_);
  const Work narrow = attention(Phase::forward, 6000, 24, 64);
  const Work wide = attention(Phase::forward, 6000, 24, 128);
  const Work widest = attention(Phase::forward, 6000, 24, 192);
  const double before = us(narrow);
  const std::vector<LeaveOut> rows = profile_.leave_out;
  points_.clear();
  measure_attention({128, 192}, 1.5);
  fit_corrections(profile_, cluster_, points_);
  EXPECT_EQ(us(narrow), before);
  EXPECT_NEAR(us(wide) / truth(wide), 1.5, 0.08);
  EXPECT_NEAR(us(widest) / truth(widest), 1.5, 0.08);
  const auto has = [&](const char* what) {
    return std::count_if(profile_.leave_out.begin(), profile_.leave_out.end(),
                         [&](const LeaveOut& l) { return l.what == what; });
  };
  EXPECT_EQ(has("hot card: attention forward, head width 64, all"), 1);
  EXPECT_EQ(has("hot card: attention forward, head width 128, all"), 1);
  EXPECT_EQ(has("hot card: attention forward, head width 192 and 128, all"), 1);
  // Too few to replace a width.
  const double kept = us(wide);
  points_.clear();
  measure(attention(Phase::forward, 6000, 24, 128), 9 * kept);
  for (int heads = 1; heads < static_cast<int>(kReplacingPoints); ++heads)
    measure(attention(Phase::forward, 2048, heads, 64), 1);
  fit_corrections(profile_, cluster_, points_);
  EXPECT_EQ(us(wide), kept);
  EXPECT_EQ(us(narrow), before);
}

TEST_F(FitCorrections, NeedEnoughPoints) {
  measure(gradient(4096, 4096, 4096), 1000);
  fit_corrections(profile_, cluster_, points_);
  EXPECT_TRUE(profile_.corrections.empty());
}

// A correction that rests on many points is not given up for a few; enough of them replace it.
TEST_F(FitCorrections, AFewPointsDoNotReplaceACorrection) {
  profile_.corrections.push_back(
      {OpKind::norm, Phase::forward, {{make_axis("bytes", {1e6})}, {100}}});
  profile_.leave_out.push_back({"hot card: memory, all", 200, 0.1, 0.2, 0.3});
  const auto norm = [](int i) {
    return streaming(OpKind::norm, Phase::forward, Precision::bf16, 1024 + 128 * i, 4096,
                     4 * 4096 * (1024 + 128 * i));
  };
  const auto rows_of = [&] {
    return std::count_if(profile_.leave_out.begin(), profile_.leave_out.end(), [](const auto& l) {
      return l.what == "hot card: memory, all" && l.points == 200;
    });
  };
  const auto correction = profile_.corrections;
  profile_.corrections.clear();
  std::vector<double> base;
  for (int i = 0; i < static_cast<int>(kReplacingPoints); ++i) base.push_back(us(norm(i)));
  profile_.corrections = correction;
  for (int i = 0; i < static_cast<int>(kReplacingPoints); ++i) {
    fit_corrections(profile_, cluster_, points_);
    EXPECT_EQ(profile_.corrections[0].grid.values[0], 100) << points_.size();
    EXPECT_EQ(rows_of(), 1);
    measure(norm(i), 1.5 * base[static_cast<std::size_t>(i)]);
  }
  fit_corrections(profile_, cluster_, points_);
  EXPECT_NEAR(us(norm(3)) / base[3], 1.5, 0.01);
  EXPECT_EQ(rows_of(), 0);
}

// Every point but one is exact, so the one that is off is all that a leave-one-out error sees.
TEST_F(FitCorrections, LeaveOneOutIsOfEachPointAlone) {
  for (const std::int64_t tokens : {2048, 4096, 8192, 16384})
    for (const std::int64_t n : {1024, 4096, 14336})
      measure(gradient(tokens, n, 4096), 1.25 * us(gradient(tokens, n, 4096)));
  const auto rows = leave_one_out(profile_, cluster_, points_);
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].what, "matmul weight_grad");
  EXPECT_EQ(rows[0].points, 12);
  EXPECT_LT(rows[0].worst, 0.02);
  points_[5].stats.median_us *= 2;
  EXPECT_GT(leave_one_out(profile_, cluster_, points_)[0].worst, 0.4);
}

}  // namespace
}  // namespace steploom
