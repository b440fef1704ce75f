// The table by class, from points whose error is known.
#include "profiler/held_out.h"

#include <gtest/gtest.h>

#include <string>

#include "sim/cluster.h"

namespace steploom {
namespace {

class HeldOutTable : public ::testing::Test {
 protected:
  // A point that took `factor` times what the model says.
  MeasuredPoint point(const std::string& text, double factor) const {
    const Ask ask = parse_asks(text, "test")[0];
    const double us = static_cast<double>(model_.cost({ask.work, {}}).time) * 1e-6 * factor;
    return {ask, {us, us, us, 10, 0, 0}, ""};
  }
  // A measured collective of two ranks, `factor` times the profile's.
  void add(OpKind kind, Bytes bytes, double factor) {
    collectives_.ranks = 2;
    CollectivePoint p;
    p.collective = name_of(kind);
    p.bytes = bytes;
    p.grid = 1;
    p.us.median = p.kernel_us = 1e6;
    collectives_.collectives = {p};
    const double error = collective_errors(collectives_, profile_, 0).at(0).error;
    p.us.median = p.kernel_us = 1e6 * (error + 1) * factor;
    added_.push_back(p);
    collectives_.collectives = added_;
  }

  Profile profile_ = built_in_profile("h200-sxm-141gb");
  Cluster cluster_ = load_cluster("h200-sxm-141gb", 1);
  CostModel model_{profile_, cluster_};
  CollectivePoints collectives_;
  std::vector<CollectivePoint> added_;
};

TEST_F(HeldOutTable, ClassesThenTheTotalThenTheWorst) {
  add(OpKind::all_reduce, 64 << 20, 2);        // −50 %
  add(OpKind::all_gather, 64 << 20, 1 / 1.1);  // +10 %
  const std::string grouped = "grouped_matmul forward 8192 28672 4096 8 even ";
  MeasuredPoint skipped = point("norm forward 4096 4096 0 1 even steploom-rms", 1);
  skipped.stats = {};
  const std::vector<MeasuredPoint> kernels{
      point("matmul forward 4096 4096 4096 1 even cublaslt", 1.25),       // −20 %
      point("matmul weight_grad 4096 4096 4096 1 even cublaslt", 0.625),  // +60 %
      point(grouped + "cublaslt-each", 4),                                // slower: left out
      point(grouped + "cublaslt-padded", 1),                              // 0
      point("attention forward 4096 2 32 8 128 128 cudnn", 0.8),          // +25 %
      point("adam optimizer 1048576 1 0 1 even steploom", 1.25),          // −20 %
      skipped};
  const HeldOut held = held_out(kernels, collectives_, profile_, model_);
  ASSERT_EQ(held.classes.size(), 6U);
  const auto expect = [&](std::size_t i, const char* what, std::int64_t points, double median,
                          double p95) {
    EXPECT_EQ(held.classes[i].what, what);
    EXPECT_EQ(held.classes[i].points, points);
    EXPECT_NEAR(held.classes[i].median, median, 1e-6) << what;
    EXPECT_NEAR(held.classes[i].p95, p95, 1e-6) << what;
  };
  expect(0, "products", 2, 0.6, 0.6);
  expect(1, "grouped products", 1, 0, 0);
  expect(2, "attention", 1, 0.25, 0.25);
  expect(3, "memory-bound", 1, 0.2, 0.2);
  expect(4, "collectives", 2, 0.5, 0.5);
  expect(5, "total", 7, 0.2, 0.6);
  ASSERT_EQ(held.worst.size(), 7U);
  EXPECT_EQ(held.worst[0].point, "matmul weight_grad 4096 4096 4096 1 even cublaslt");
  EXPECT_EQ(held.worst[1].point, "all_reduce 67108864");
  EXPECT_NEAR(held.worst[1].error, -0.5, 1e-6);
  EXPECT_NEAR(held.worst[6].error, 0, 1e-6);
}

TEST_F(HeldOutTable, TenWorstAtMostAndNothingWithoutPoints) {
  std::vector<MeasuredPoint> kernels;
  for (int i = 1; i <= 12; ++i) {
    kernels.push_back(
        point("norm forward " + std::to_string(1024 * i) + " 4096 0 1 even steploom-rms", 1.0 + i));
  }
  const HeldOut held = held_out(kernels, collectives_, profile_, model_);
  ASSERT_EQ(held.worst.size(), 10U);
  EXPECT_EQ(held.worst[0].point, "norm forward 12288 4096 0 1 even steploom-rms");
  EXPECT_EQ(held.classes.size(), 2U);
  const HeldOut none = held_out({}, collectives_, profile_, model_);
  EXPECT_TRUE(none.classes.empty());
  EXPECT_TRUE(none.worst.empty());
}

TEST_F(HeldOutTable, ADrawIsComparedWithWhatWasMeasured) {
  const DrawnAsks draw = drawn_asks(20, 1);
  std::vector<MeasuredPoint> kernels;
  for (const Ask& ask : draw.kernels) kernels.push_back({ask, {1, 1, 1, 5, 0, 0}, ""});
  kernels.back().stats = {};  // not measured
  kernels.push_back(point("matmul forward 64 64 64 1 even cublaslt", 1));
  add(draw.collectives[0].kind, draw.collectives[0].bytes, 1);
  const DrawCheck check = check_draw(draw, kernels, collectives_);
  EXPECT_EQ(check.drawn, 6 + 2 * 3 + 3 + 4 + 4);
  EXPECT_EQ(check.measured, 6 + 2 * 3 + 3 + 3 + 1);
  EXPECT_EQ(check.others, 1);
}

}  // namespace
}  // namespace steploom
