// The largest clusters: what a lowering costs there is set by the classes of ranks, not by ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "models/error.h"
#include "planner/bounds.h"
#include "planner/lower.h"
#include "sim/engine.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

double seconds_of(const auto& act) {
  const auto start = std::chrono::steady_clock::now();
  act();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// 2048 nodes of eight: one representative a stage, the same step as on two data-parallel replicas
// but for the collectives over data parallelism, and no more operators.
TEST(Scale, SixteenThousandGpusFoldToAStageEach) {
  World small(small_moe(8), 8, 1024, 64);
  World large(small_moe(8), 2048, 1024, 16384);
  const char* const text = "tp=4,pp=4,ep=8,etp=1,mbs=1,sp=1,zero=0";
  const Lowered few = lower(small.setting, small.layout(text), small.cache);
  Lowered many;
  const double took =
      seconds_of([&] { many = lower(large.setting, large.layout(text), large.cache); });
  EXPECT_EQ(large.cluster.devices(), 16384);
  EXPECT_EQ(many.program.devices.size(), 4U);
  EXPECT_EQ(many.program.devices.size(), few.program.devices.size());
  EXPECT_EQ(many.program.slots.size(), few.program.slots.size());
  EXPECT_EQ(many.program.devices[0].multiplicity, 4096);
  EXPECT_GE(replay(many.program).makespan, replay(few.program).makespan);
  EXPECT_LT(took, 20);  // 0.15 s; sanitizers and busy neighbours take more
}

// The closed-form bound, which every layout of the search pays, does not see the data-parallel
// ranks at all.
TEST(Scale, BoundsDoNotGrowWithTheCluster) {
  World large(small_moe(8), 2048, 1024, 16384);
  BoundModel bounds(large.setting, large.cache);
  const Layout l = large.layout("tp=4,pp=4,ep=8,etp=1,mbs=1,sp=1,zero=0");
  const Bound bound = bounds.bound(l);
  const Lowered lowered = lower(large.setting, l, large.cache);
  EXPECT_LE(bound.step, replay(lowered.program).makespan);
  EXPECT_LT(seconds_of([&] { bounds.bound(l); }), 0.1);
}

// Tensor parallelism over several nodes of one NVLink domain never touches a NIC.
TEST(Scale, ARackIsPlannedAsOneNode) {
  World rack(small_moe(4), 36, 1024, 288, "megatron-core", "gb200");
  const Lowered lowered =
      lower(rack.setting, rack.layout("tp=8,pp=1,ep=8,etp=1,mbs=1,sp=1,zero=0"), rack.cache);
  for (const Communicator& c : lowered.program.communicators) {
    if (c.name.starts_with("tp")) {
      EXPECT_EQ(c.ranks, 8U);
      EXPECT_EQ(c.uses.size(), 1U);  // its members' NVLink ports
    }
  }
}

// A cost model is of one type of device; a CostedCluster has one of each.
TEST(Scale, OneCostModelOfSeveralTypesOfDeviceIsRefused) {
  Cluster mixed = load_cluster("h100-sxm-80gb", 2);
  mixed.groups = {{mixed.device, 1}, {load_cluster("a100-sxm-80gb", 1).device, 1}};
  try {
    const CostModel costs(built_in_profile("h100-sxm-80gb"), mixed);
    FAIL() << "costed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("one type of device"));
  }
}

}  // namespace
}  // namespace steploom
