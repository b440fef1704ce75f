#include "profiler/fit_modelled.h"

#include <gtest/gtest.h>

#include <algorithm>

#include <string>
#include <vector>

#include "sim/collective_model.h"
#include "sim/kernel_model.h"

namespace steploom {
namespace {

constexpr const char* kRows =
    "gpu,routing,us\nh100-sxm-80gb,balanced,1\na100-sxm-80gb,power_law_1.2,2\n";

TEST(FitModelled, FindsWhatATableLacks) {
  const MeasuredTable table = parse_table(kRows, "moe.csv");
  EXPECT_TRUE(has_rows(table, "h100-sxm-80gb", "balanced"));
  EXPECT_TRUE(has_rows(table, "a100-sxm-80gb"));
  EXPECT_FALSE(has_rows(table, "a100-sxm-80gb", "balanced"));
  EXPECT_FALSE(has_rows(table, "v100-sxm-32gb"));
}

Profile of(const Cluster& cluster) {
  Profile p;
  p.device = {cluster.device.name, cluster.device.sms, cluster.device.peak_flops,
              cluster.device.memory_bandwidth};
  return p;
}

// The same part of the roofline on both: times go as the peaks.
TEST(FitModelled, TakesOverEfficienciesNotTimes) {
  const Profile& h100 = built_in_profile("h100-sxm-80gb");
  Profile p = of(load_cluster("h100-sxm-80gb", 1));
  p.device.peak_flops /= 2;
  p.device.memory_bandwidth /= 2;
  take_over(p, ModelledPart::attention, h100);
  take_over(p, ModelledPart::matmul, h100);
  EXPECT_EQ(p.modelled, (std::vector{ModelledPart::matmul, ModelledPart::attention}));
  const ProductShape shape{8192, 8192, 8192, 1};
  EXPECT_NEAR(matmul_seconds(p, shape) / matmul_seconds(h100, shape), 2, 0.01);
  EXPECT_EQ(p.attention.size(), h100.attention.size());
}

TEST(FitModelled, ARooflineHasOneEfficiency) {
  const Cluster cluster = load_cluster("v100-sxm-32gb", 1);
  Profile p = of(cluster);
  RooflineShares shares;
  shares.matmul = 0.5;
  model_roofline(p, ModelledPart::matmul, cluster, shares);
  model_roofline(p, ModelledPart::collectives, cluster);
  for (const double k : {512.0, 8192.0, 65536.0}) {
    const double launch = 2 * p.matmul.launch_us * 1e-6;
    const double seconds = matmul_seconds(p, {8192, 8192, k, 1}) - launch;
    EXPECT_NEAR(2 * 8192.0 * 8192 * k / seconds / 125e12, 0.5, 0.001) << k;
  }
  // Two GPUs swap halves: large sizes over 20/25 of the links, and curves never fall.
  EXPECT_EQ(p.collectives.size(), 4u * 3);
  const double size = 512.0 * 1024 * 1024;
  const double us = 1e6 * ring_seconds(OpKind::all_gather, size, 2, cluster.nvlink, shares.nvlink);
  EXPECT_NEAR(us, size / 2 / 120e9 * 1e6, 0.01 * us);
  for (const CollectiveCurve& c : p.collectives)
    EXPECT_TRUE(std::is_sorted(c.grid.values.begin(), c.grid.values.end()));
}

}  // namespace
}  // namespace steploom
