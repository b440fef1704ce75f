#include "sim/correction.h"

#include <gtest/gtest.h>

#include "models/error.h"
#include "models/shapes.h"
#include "sim/cost_model.h"

namespace steploom {
namespace {

class Corrections : public ::testing::Test {
 protected:
  Corrections()
      : profile_(built_in_profile("h100-sxm-80gb")), cluster_(load_cluster("h100-sxm-80gb", 1)) {
    profile_.corrections.clear();
  }
  Cost cost(const Work& w) const { return CostModel(profile_, cluster_).cost({w, GroupShape{}}); }
  void add(OpKind kind, Phase phase, std::vector<Axis> axes, std::vector<std::int32_t> values) {
    profile_.corrections.push_back({kind, phase, {std::move(axes), std::move(values)}});
  }
  Profile profile_;
  Cluster cluster_;
};

// One octave more is twice the time, and the duration counts as fitted; other phases keep theirs.
TEST_F(Corrections, MultiplyTheTimeOfTheirKindAndPhase) {
  const Work w = product(Phase::weight_grad, Precision::bf16, 4096, 4096, 4096);
  const Work other = product(Phase::data_grad, Precision::bf16, 4096, 4096, 4096);
  const Cost before = cost(w), untouched = cost(other);
  add(OpKind::matmul, Phase::weight_grad,
      {make_axis("m", {4096}), make_axis("n", {4096}), make_axis("k", {4096})}, {1000});
  EXPECT_NEAR(static_cast<double>(cost(w).time) / static_cast<double>(before.time), 2, 1e-9);
  EXPECT_EQ(before.provenance, Provenance::modelled);
  EXPECT_EQ(cost(w).provenance, Provenance::fitted);
  EXPECT_EQ(cost(other).time, untouched.time);
}

// Between the knots the octaves are linear in the logarithm of the bytes; beyond them constant.
TEST_F(Corrections, AreLinearBetweenKnots) {
  const auto norm = [](Bytes bytes) {
    return streaming(OpKind::norm, Phase::forward, Precision::bf16, bytes / 4096, 1024, bytes);
  };
  const Bytes low = Bytes{1} << 20, middle = Bytes{1} << 22, high = Bytes{1} << 24;
  const Picoseconds plain[] = {cost(norm(low)).time, cost(norm(middle)).time,
                               cost(norm(4 * high)).time};
  add(OpKind::norm, Phase::forward, {make_axis("bytes", {1 << 20, 1 << 24})}, {0, 2000});
  EXPECT_EQ(cost(norm(low)).time, plain[0]);
  EXPECT_NEAR(static_cast<double>(cost(norm(middle)).time), 2.0 * static_cast<double>(plain[1]), 2);
  EXPECT_NEAR(static_cast<double>(cost(norm(4 * high)).time), 4.0 * static_cast<double>(plain[2]),
              4);
  EXPECT_EQ(cost(norm(4 * high)).provenance, Provenance::modelled);  // two octaves outside
}

// A graph that counts other bytes for the same operator gets the same time.
TEST_F(Corrections, BelongToTheOperatorNotToItsBytes) {
  Work loss = streaming(OpKind::cross_entropy, Phase::forward, Precision::bf16, 4096, 32000,
                        6LL * 4096 * 32000);
  Work fewer = loss;
  fewer.bytes /= 3;
  EXPECT_NE(cost(loss).time, cost(fewer).time);  // without a correction only bytes are known
  add(OpKind::cross_entropy, Phase::forward,
      {make_axis("bytes", {1 << 20, 1 << 30}), make_axis("width", {8192})}, {100, -200});
  EXPECT_EQ(cost(loss).time, cost(fewer).time);
}

TEST_F(Corrections, SurviveTheProfilesFile) {
  add(OpKind::matmul, Phase::forward,
      {make_axis("m", {1024, 8192}), make_axis("n", {4096}), make_axis("k", {4096})}, {-50, 120});
  add(OpKind::adam, Phase::optimizer, {make_axis("bytes", {1e6, 1e9})}, {10, -20});
  const Profile read = parse_profile(to_json(profile_), "corrected.json");
  ASSERT_EQ(read.corrections.size(), 2U);
  EXPECT_EQ(read.corrections[1].kind, OpKind::adam);
  EXPECT_EQ(read.corrections[1].phase, Phase::optimizer);
  EXPECT_EQ(read.corrections[0].grid.values, (std::vector<std::int32_t>{-50, 120}));
}

TEST_F(Corrections, OfCollectivesOrOutOfOrderAreRefused) {
  add(OpKind::norm, Phase::forward, {make_axis("bytes", {1e6})}, {10});
  add(OpKind::matmul, Phase::forward,
      {make_axis("m", {1}), make_axis("n", {1}), make_axis("k", {1})}, {0});
  EXPECT_THROW(parse_profile(to_json(profile_), "unsorted.json"), Error);
  profile_.corrections.clear();
  add(OpKind::all_reduce, Phase::forward, {make_axis("bytes", {1e6})}, {10});
  EXPECT_THROW(parse_profile(to_json(profile_), "collective.json"), Error);
}

}  // namespace
}  // namespace steploom
