// Exchanges of experts' rows in steps between pairs of groups (FasterMoE's smart schedule).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/space.h"
#include "sim/relax.h"
#include "sim/step_clock.h"
#include "tests/planner/parted_layer.h"

namespace steploom {
namespace {

using testing::HasSubstr;

// Two steps of 4, 3 + 3 and 4 us forward, as two chunks. Backward each part computes its weight
// gradients, 2 + 2, at once: the first part from 4 to 14, the second from 14 to 24, and the last
// exchange from 22, when its data gradients are there, to 26. Two chunks take 24.
TEST(Pairwise, TimelineByHand) {
  const PartedLayer two("pairwise", 2);
  EXPECT_EQ(two.at("dispatch forward 1"), (Span{4, 8}));
  EXPECT_EQ(two.at("experts up forward 0"), (Span{4, 7}));
  EXPECT_EQ(two.at("combine forward 0"), (Span{10, 14}));
  EXPECT_EQ(two.at("combine forward 1"), (Span{16, 20}));
  EXPECT_EQ(two.forward(), 20);
  EXPECT_EQ(two.at("experts down data_grad 0", true), (Span{4, 7}));
  EXPECT_EQ(two.at("experts down weight_grad 0", true), (Span{7, 9}));
  EXPECT_EQ(two.at("experts up data_grad 0", true), (Span{9, 12}));
  EXPECT_EQ(two.at("experts up weight_grad 0", true), (Span{12, 14}));
  EXPECT_EQ(two.at("dispatch backward data_grad 0", true), (Span{12, 16}));
  EXPECT_EQ(two.at("experts up data_grad 1", true), (Span{19, 22}));
  EXPECT_EQ(two.at("dispatch backward data_grad 1", true), (Span{22, 26}));
  EXPECT_EQ(two.backward(), 26);
}

// The own group's rows in 1 us, the other's in 7: S0 S1 R0 R1 on one stream. C0 lies beside S1, and
// R0 waits for S1 although its rows are there at 7: 1, 7, then R0 to 9; C1 from 8 to 14, R1 to 21.
TEST(Pairwise, AllStepsOfTheDispatchComeBeforeThoseOfTheCombine) {
  const PartedLayer two("pairwise", 2, 0, {1, 7});
  EXPECT_EQ(two.at("dispatch forward 0"), (Span{0, 1}));
  EXPECT_EQ(two.at("dispatch forward 1"), (Span{1, 8}));
  EXPECT_EQ(two.at("experts down forward 0"), (Span{4, 7}));
  EXPECT_EQ(two.at("combine forward 0"), (Span{8, 9}));
  EXPECT_EQ(two.at("experts up forward 1"), (Span{8, 11}));
  EXPECT_EQ(two.at("combine forward 1"), (Span{14, 21}));
  EXPECT_EQ(two.forward(), 21);
}

// Closed form <= longest path <= replay for every number of steps, in and across nodes, with a
// pipeline and with recomputation; memory likewise.
TEST(Pairwise, BoundsStayBelow) {
  World world(small_moe(), 2, 1024, 32, "steploom", "h200-sxm-141gb");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
  BoundModel bounds(world.setting, world.cache);
  for (const char* mesh : {"ep=8", "ep=4", "ep=4,pp=2", "ep=8,recompute=full"})
    for (const int steps : {2, 4, 8}) {
      const Layout l = world.layout(std::string(mesh) + ",pairwise=" + std::to_string(steps));
      if (l.ep % steps != 0) continue;
      ASSERT_FALSE(refuse({world.model, world.work, l, 8, &world.setting.runtime})) << to_text(l);
      const Bound bound = bounds.bound(l);
      Lowered lowered = lower(world.setting, l, world.cache);
      const Replay full = replay_at_clock(lowered.program, world.setting.replaying());
      EXPECT_LE(bound.step, full.makespan) << to_text(l);
      EXPECT_LE(relax(lowered.program).makespan, full.makespan) << to_text(l);
      EXPECT_LE(bound.memory, *std::max_element(full.peak_memory.begin(), full.peak_memory.end()))
          << to_text(l);
    }
}

TEST(Pairwise, IsRefusedByName) {
  World world(small_moe(), 1, 1024, 8, "steploom");
  const auto refusal = [&](const std::string& text, const char* runtime = "steploom") {
    const Layout l = world.layout(text);
    const auto r = refuse({world.model, world.work, l, 8, &runtime_named(runtime)});
    return r ? std::string(r->rule) + ": " + r->message : std::string();
  };
  EXPECT_EQ(refusal("ep=8,pairwise=4"), "");
  EXPECT_THAT(refusal("ep=8,pairwise=4", "megatron-core"), HasSubstr("pairwise needs a runtime"));
  EXPECT_THAT(refusal("pairwise=4"), HasSubstr("pairwise needs an exchange between groups"));
  EXPECT_THAT(refusal("ep=4,pairwise=8"), HasSubstr("pairwise needs an exchange between groups"));
  EXPECT_THAT(refusal("ep=8,pairwise=2,chunks=2"), HasSubstr("pairwise excludes chunks"));
  EXPECT_THAT(refusal("ep=8,pairwise=2,ctas.ep=8"), HasSubstr("pairwise excludes chunks"));
}

// A baseline to compare with, asked for by name.
TEST(Pairwise, IsNotSearched) {
  World world(small_moe(), 1, 1024, 8, "steploom");
  for (const Layout& l : enumerate_layouts(world.setting).valid) ASSERT_EQ(l.pairwise, 1);
}

}  // namespace
}  // namespace steploom
