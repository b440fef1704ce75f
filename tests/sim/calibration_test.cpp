#include "sim/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "models/error.h"
#include "sim/calibration_fit.h"
#include "sim/cost_model.h"
#include "tests/sim/hand_timeline.h"

namespace steploom {
namespace {

using testing::HandTimeline;
using ::testing::HasSubstr;
using testing::kMicro;

constexpr auto kMatmul = static_cast<std::size_t>(OpClass::matmul);
constexpr auto kCommunication = static_cast<std::size_t>(OpClass::communication);
constexpr Picoseconds kLaunch = 6 * kMicro;

Calibration fit(const HandTimeline& measured, const HandTimeline& predicted) {
  return fit_calibration(measured.timeline(), predicted.timeline(), 0, kLaunch, "trace.json");
}

// 10 us of products predicted and 12 measured: 1.2. The exchange takes half as long again.
TEST(Calibration, AFactorIsMeasuredOverPredicted) {
  HandTimeline predicted, measured;
  predicted.kernel("a", 0, 0, 4);
  predicted.kernel("b", 0, 4, 10);
  predicted.collective("exchange", 0, 4, 8);
  measured.kernel("gemm", 0, 1, 13);
  measured.collective("ncclSendRecv", 0, 2, 8);
  const Calibration c = fit(measured, predicted);
  EXPECT_DOUBLE_EQ(c.factor(OpClass::matmul), 1.2);
  EXPECT_DOUBLE_EQ(c.factor(OpClass::communication), 1.5);
  EXPECT_FALSE(c.has_factor(OpClass::attention));
  EXPECT_EQ(c.factor(OpClass::attention), 1);
  EXPECT_EQ(c.launch, 0);  // two launches say nothing
  EXPECT_EQ(c.assumed_launch, kLaunch);
}

// Predictions are a mean over the ranks of the stage.
TEST(Calibration, RanksOfAStageAreAMean) {
  HandTimeline predicted(2), measured;
  predicted.kernel("a", 0, 0, 4);
  predicted.kernel("a", 1, 0, 8);
  measured.kernel("gemm", 0, 0, 9);
  EXPECT_DOUBLE_EQ(fit(measured, predicted).factor(OpClass::matmul), 1.5);
  EXPECT_THROW(fit_calibration(measured.timeline(), predicted.timeline(), 1, kLaunch, "t"), Error);
}

TEST(Calibration, WhatIsFarOffIsRefusedByName) {
  HandTimeline predicted, slow, fast, other;
  predicted.kernel("a", 0, 0, 4);
  slow.kernel("gemm", 0, 0, 8.1);
  fast.kernel("gemm", 0, 0, 1.9);
  other.collective("nccl", 0, 0, 4);
  for (const HandTimeline* t : {&slow, &fast}) {
    try {
      fit(*t, predicted);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), ExitStatus::refused);
      EXPECT_THAT(e.what(), HasSubstr("trace.json: class matmul: expected 0.5 to 2 times"));
    }
  }
  HandTimeline at_most, at_least;
  at_most.kernel("gemm", 0, 0, 8);
  at_least.kernel("gemm", 0, 0, 2);
  EXPECT_DOUBLE_EQ(fit(at_most, predicted).factor(OpClass::matmul), 2);
  EXPECT_DOUBLE_EQ(fit(at_least, predicted).factor(OpClass::matmul), 0.5);
  EXPECT_THROW(fit(other, predicted), Error);  // nothing in common
}

// Launches 7 us apart, but for a stop of a millisecond; the median does not see it.
TEST(Calibration, ALaunchIsTheMedianTimeBetweenTwo) {
  HandTimeline predicted, measured;
  predicted.kernel("a", 0, 0, 4);
  double issued = 1;
  for (int i = 0; i < 40; ++i) {
    issued += i == 20 ? 1000 : 7;
    measured.kernel("gemm", 0, issued, issued + 0.1, {.issued = issued});
  }
  EXPECT_EQ(fit(measured, predicted).launch, 7 * kMicro);

  HandTimeline stopped;
  for (int i = 0; i < 40; ++i)
    stopped.kernel("gemm", 0, 1e4 * i, 1e4 * i + 0.1, {.issued = 1e4 * i});
  EXPECT_THROW(fit(stopped, predicted), Error);

  // A host that is held back because 900 launches wait is paced by the device.
  HandTimeline held;
  issued = 1;
  for (int i = 0; i < 2000; ++i) {
    issued += i < 950 ? 2 : 500;
    held.kernel("gemm", 0, 400'000 + i * 0.003, 400'000 + i * 0.003 + 0.002, {.issued = issued});
  }
  EXPECT_EQ(fit(held, predicted).launch, 2 * kMicro);
}

TEST(Calibration, CostsOfAClassAreScaledAndSayIt) {
  Calibration c;
  c.classes[kMatmul] = {1000, 1250};
  c.classes[kCommunication] = {1000, 2000};
  const Cluster cluster = load_cluster("h100-sxm-80gb", 2);
  const Profile& profile = built_in_profile("h100-sxm-80gb");
  const CostModel plain(profile, cluster), own(profile, cluster, &c);
  Work product;
  product.m = product.n = product.k = 4096;
  Work exchange;
  exchange.kind = OpKind::all_to_all;
  exchange.bytes = Bytes{64} << 20;
  Work norm;
  norm.kind = OpKind::norm;
  norm.m = norm.n = 4096;
  norm.bytes = Bytes{64} << 20;
  const auto cost = [](const CostModel& m, const Work& w) { return m.cost({w, {16, 2, 8}}); };
  EXPECT_NEAR(static_cast<double>(cost(own, product).time),
              1.25 * static_cast<double>(cost(plain, product).time), 1);
  EXPECT_EQ(cost(own, product).provenance, Provenance::calibrated);
  EXPECT_EQ(cost(own, product).sms, cost(plain, product).sms);
  // It takes twice as long, so it draws half of the link at a time.
  EXPECT_EQ(cost(own, exchange).time, 2 * cost(plain, exchange).time);
  EXPECT_NEAR(cost(own, exchange).link_share, cost(plain, exchange).link_share / 2.0, 1);
  // What has no factor is as it was.
  EXPECT_EQ(cost(own, norm).time, cost(plain, norm).time);
  EXPECT_EQ(cost(own, norm).provenance, cost(plain, norm).provenance);
  // A skewed grouped product is scaled once, not group by group and again as a whole.
  c.classes[static_cast<std::size_t>(OpClass::grouped_matmul)] = {1000, 1500};
  Work experts = product;
  experts.kind = OpKind::grouped_matmul;
  experts.groups = 8;
  experts.skew = 1.2;
  EXPECT_NEAR(static_cast<double>(cost(own, experts).time),
              1.5 * static_cast<double>(cost(plain, experts).time), 2);
}

}  // namespace
}  // namespace steploom
