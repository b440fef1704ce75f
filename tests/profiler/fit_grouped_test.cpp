#include "profiler/fit_grouped.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/error.h"

namespace steploom {
namespace {

ProfiledDevice device() {
  return {"toy", 100, 1e15, 3e12};
}

constexpr double kRate = 0.7;  // of the base that every product of the toy GPU reaches

double truth_us(const ExpertLayer& layer) {
  return layer.moving_us +
         (10 + (product_base(device(), layer.up) + product_base(device(), layer.down)) * 1e6) /
             kRate;
}

// 64 experts of width 1024 on ep ranks, at several token counts.
std::string rows(double ep, double slower) {
  std::string text;
  for (double tokens = 256; tokens <= 16384; tokens *= 2) {
    const double us = slower * truth_us(expert_layer(device(), tokens, 4096, 1024, 8, 64, 1, ep));
    text += "toy," + std::to_string(tokens) + ",4096,1024,8,64,1," + std::to_string(ep) +
            ",balanced," + std::to_string(us) + "\n";
    text += "toy," + std::to_string(tokens) + ",4096,1024,8,64,1," + std::to_string(ep) +
            ",power_law_1.2,1\n";  // not balanced: not ours
  }
  return text;
}
const char* const kHeader = "gpu,tokens,hidden,expert_ffn,top_k,experts,tp,ep,routing,us\n";

TEST(FitGrouped, SplitsALayerIntoItsProducts) {
  const ExpertLayer layer = expert_layer(device(), 8192, 4096, 14336, 2, 8, 2, 4);
  EXPECT_EQ(layer.up.m, 2048);   // 8192 tokens · 2 choices / 8 experts
  EXPECT_EQ(layer.up.n, 14336);  // gate and up, halved by tp
  EXPECT_EQ(layer.up.k, 4096);
  EXPECT_EQ(layer.up.groups, 2);
  EXPECT_EQ(layer.down.n, 4096);
  EXPECT_EQ(layer.down.k, 7168);
  // 2048·2 rows moved three times and the tokens written, two bytes each, at 0.8 of 3 TB/s.
  EXPECT_NEAR(layer.moving_us, 20 + 2.0 * (3 * 4096 + 8192) * 4096 / 2.4e12 * 1e6, 1e-9);
}

// From whole layers alone, a single product's time.
TEST(FitGrouped, FindsTheEfficiencyOfASingleProduct) {
  std::string text = kHeader;
  for (double ep = 1; ep <= 64; ep *= 2) {
    for (int again = 0; again < 10; ++again) text += rows(ep, 1);  // weighs against the ridge
  }
  Profile p;
  p.device = device();
  fit_grouped(p, parse_table(text, "toy.csv"));
  const ProductShape shape{512, 2048, 4096, 16};
  const double truth = (5e-6 + product_base(device(), shape)) / kRate;
  EXPECT_NEAR(grouped_seconds(p, shape) / truth, 1, 0.03);
  ASSERT_EQ(p.leave_out.size(), 2u);
  EXPECT_LT(p.leave_out[1].median, 0.02);
  EXPECT_EQ(p.leave_out[1].points, 490);
}

// A shape that fell back on a slow kernel says nothing, and is left out whole.
TEST(FitGrouped, LeavesOutShapesThatFellBack) {
  const std::string text = kHeader + rows(1, 1) + rows(4, 1) + rows(16, 4);
  Profile p;
  p.device = device();
  fit_grouped(p, parse_table(text, "toy.csv"));
  EXPECT_EQ(p.leave_out[1].points, 14);
  EXPECT_NE(p.leave_out[1].what.find("7 points"), std::string::npos) << p.leave_out[1].what;
}

TEST(FitGrouped, RefusesTablesWithoutThisGpu) {
  Profile p;
  p.device = {"another", 100, 1e15, 3e12};
  EXPECT_THROW(fit_grouped(p, parse_table(kHeader + rows(1, 1), "toy.csv")), Error);
}

}  // namespace
}  // namespace steploom
