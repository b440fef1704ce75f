// Exact points of a profile: their text, and what the cost model makes of them.
#include "sim/profile_points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "models/shapes.h"
#include "sim/cost_model.h"
#include "tests/sim/text_edits.h"

namespace steploom {
namespace {

using testing::HasSubstr;

const Work kLinear = product(Phase::forward, Precision::bf16, 4096, 6144, 4096);
const Work kNorm = streaming(OpKind::norm, Phase::forward, Precision::bf16, 4096, 4096, 4 << 24);

Profile with(std::vector<std::pair<Work, double>> points) {
  Profile p = built_in_profile("h100-sxm-80gb");
  p.points.on = {
      "NVIDIA H100 80GB HBM3", "580.1", "13.0", "13.1.0", "", 132, "a graph", "2026-11-22"};
  std::sort(points.begin(), points.end(),
            [](const auto& a, const auto& b) { return point_key(a.first) < point_key(b.first); });
  for (const auto& [work, us] : points)
    p.points.kernels.push_back({work, "somebody's", us, 0.99 * us, 1.01 * us, 20});
  return p;
}

TEST(ProfilePoints, AreReadBackAsTheyWereWritten) {
  Work attention = causal_attention(Phase::forward, Precision::bf16, {4096, 1, 32, 8, 128, 128});
  const Profile p = with({{kLinear, 300.25}, {kNorm, 20.5}, {attention, 500}});
  const Profile again = parse_profile(to_json(p), "again");
  EXPECT_EQ(to_json(again), to_json(p));
  ASSERT_EQ(again.points.kernels.size(), 3U);
  EXPECT_EQ(again.points.on.method, "a graph");
  const PointIndex index(again.points.kernels);
  ASSERT_NE(index.find(kLinear), nullptr);
  EXPECT_EQ(index.find(kLinear)->median_us, 300.25);
  EXPECT_EQ(index.find(attention)->work.head_dim, 128);
}

TEST(ProfilePoints, WhatCannotBeIsRefused) {
  const std::string good = to_json(with({{kLinear, 300}, {kNorm, 20}}));
  const auto refused = [&](const std::string& from, const std::string& to) {
    return refusal([&] { parse_profile(replaced(good, from, to), "p.json"); });
  };
  EXPECT_THAT(refused("{\"version\": 1", "{\"version\": 2"), HasSubstr("points of version 1"));
  EXPECT_THAT(refused("\"median_us\":300", "\"median\":300"), HasSubstr("median_us"));
  EXPECT_THAT(refused("\"median_us\":300", "\"median_us\":-300"),
              HasSubstr("/kernels/0/median_us"));
  EXPECT_THAT(refused("\"median_us\":300", "\"median_us\":\"300\""), HasSubstr("median_us"));
  EXPECT_THAT(refused("\"median_us\":300", "\"median_us\":400"),
              HasSubstr("between the quartiles"));
  EXPECT_THAT(refused("\"median_us\":300", "\"median_us\":3e99"), HasSubstr("median_us"));
  EXPECT_THAT(refused("\"samples\":20", "\"samples\":0"), HasSubstr("/samples"));
  EXPECT_THAT(refused("\"m\":4096", "\"m\":0"), HasSubstr("/m"));
  EXPECT_THAT(refused("\"kind\":\"matmul\"", "\"kind\":\"matmull\""), HasSubstr("'matmul'"));
  EXPECT_THAT(refused("\"kind\":\"matmul\"", "\"kind\":\"all_reduce\""), HasSubstr("a kernel"));
  EXPECT_THAT(refused("\"kind\":\"norm\"", "\"kind\":\"matmul\""), HasSubstr("/k"));
  EXPECT_THAT(refused("\"sms\": 132, \"date\"", "\"sms\": 114, \"date\""),
              HasSubstr("the SMs of the profile's device"));
  const std::string line = good.substr(good.find("{\"kind\":\"matmul\""));
  const std::string first = line.substr(0, line.find('\n') + 1);
  EXPECT_THAT(refused(first, first + first), HasSubstr("each shape once"));
  EXPECT_THAT(refusal([&] { parse_profile(good.substr(0, good.size() / 2), "p.json"); }),
              HasSubstr("p.json"));
}

TEST(ProfilePoints, KeysTellApartWhatACostDependsOn) {
  Work other = kNorm;
  other.bytes += 2;
  EXPECT_NE(point_key(other), point_key(kNorm));
  other = kNorm;
  other.k = 2;  // LayerNorm's statistics
  EXPECT_NE(point_key(other), point_key(kNorm));
  Work sum = streaming(OpKind::residual, Phase::forward, Precision::bf16, 4096, 4096, 6 << 24);
  const PointKey plain = point_key(sum);
  sum.k = 99;  // means nothing in a sum
  EXPECT_EQ(point_key(sum), plain);
  Work permute = streaming(OpKind::permute, Phase::forward, Precision::bf16, 4096, 4096, 1 << 26);
  other = permute;
  other.k = 8;  // the same rows, each source row read eight times
  EXPECT_NE(point_key(other), point_key(permute));
}

class PointCosts : public ::testing::Test {
 protected:
  Cost cost(const Profile& p, const Work& w) const {
    return CostModel(p, cluster_).cost({w, GroupShape{}});
  }
  const Profile& base_ = built_in_profile("h100-sxm-80gb");
  Cluster cluster_ = load_cluster("h100-sxm-80gb", 1);
};

TEST_F(PointCosts, AMeasuredShapeTakesItsVeryTime) {
  const Profile p = with({{kLinear, 300.25}, {kNorm, 20.5}});
  EXPECT_EQ(cost(p, kLinear).time, 300'250'000);
  EXPECT_EQ(cost(p, kLinear).provenance, Provenance::measured);
  EXPECT_EQ(cost(p, kLinear).sms, cost(base_, kLinear).sms);
  EXPECT_EQ(cost(p, kNorm).time, 20'500'000);
  // No correction is laid over it.
  Profile corrected = p;
  corrected.corrections = {{OpKind::norm, Phase::forward, {{make_axis("bytes", {1e6})}, {1000}}}};
  EXPECT_EQ(cost(corrected, kNorm).time, 20'500'000);
}

TEST_F(PointCosts, OtherShapesAreCostedAsBefore) {
  const Profile p = with({{kLinear, 300.25}, {kNorm, 20.5}});
  Work near = kLinear;
  near.m += 1;
  EXPECT_EQ(cost(p, near).time, cost(base_, near).time);
  EXPECT_EQ(cost(p, near).provenance, cost(base_, near).provenance);
  near = kLinear;
  near.phase = Phase::data_grad;
  EXPECT_EQ(cost(p, near).time, cost(base_, near).time);
}

TEST_F(PointCosts, Fp16CostsAsBf16ButWasNotMeasured) {
  Work half = kLinear;
  half.precision = Precision::fp16;
  const Profile p = with({{kLinear, 300.25}});
  EXPECT_EQ(cost(p, half).time, 300'250'000);
  EXPECT_EQ(cost(p, half).provenance, Provenance::fitted);
}

// A grouped product is never credited with more speed than the dense product over all its rows that
// was measured, unless it was measured itself.
TEST_F(PointCosts, AGroupedProductIsNoFasterThanTheMeasuredDenseOne) {
  const Work grouped = grouped_product(Phase::forward, Precision::bf16, 8, 4096, 6144, 4096);
  ASSERT_LT(cost(base_, grouped).time, 900'000'000);
  EXPECT_EQ(cost(with({{kLinear, 900}}), grouped).time, 900'000'000);
  EXPECT_EQ(cost(with({{kLinear, 1}}), grouped).time, cost(base_, grouped).time);
  EXPECT_EQ(cost(with({{kLinear, 900}, {grouped, 700}}), grouped).time, 700'000'000);
}

}  // namespace
}  // namespace steploom
