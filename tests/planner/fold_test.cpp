#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "planner/knockout.h"
#include "planner/lower.h"
#include "planner/space.h"
#include "sim/check.h"
#include "sim/contention.h"
#include "sim/engine.h"
#include "sim/step_clock.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

std::uint64_t next(std::uint64_t& state) {  // xorshift64
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

// Nodes of 8 and of 6: with 6, groups of 2 and 4 straddle nodes, so ranks of one stage differ.
struct FoldCase {
  int nodes;
  int per_node;
  int layouts;
  const char* cluster = "h100-sxm-80gb";  // its profile holds no contention tables
};

class FoldedLayouts : public testing::TestWithParam<FoldCase> {};

// Folded equals unfolded to the picosecond, in time and in memory, over random layouts.
TEST_P(FoldedLayouts, ChangesNoTime) {
  World world(small_moe(), GetParam().nodes, 1024, 48, "megatron-core", GetParam().cluster);
  world.cluster.devices_per_node = GetParam().per_node;
  world.cluster.nics_per_node = GetParam().per_node;
  const Space space = enumerate_layouts(world.setting);
  ASSERT_GT(space.valid.size(), 200U);
  std::uint64_t random = 20261122 + static_cast<std::uint64_t>(GetParam().per_node);
  for (int i = 0; i < GetParam().layouts; i += kOneIn) {
    const Layout& l = space.valid[next(random) % space.valid.size()];
    const Lowered small = lower(world.setting, l, world.cache);
    const Lowered whole = lower(world.setting, l, world.cache, Folding::unfolded);
    ASSERT_EQ(whole.program.devices.size(), static_cast<std::size_t>(l.devices()));
    std::int32_t ranks = 0;
    for (const Device& d : small.program.devices) ranks += d.multiplicity;
    ASSERT_EQ(ranks, l.devices());
    for (const Contention* c :
         {static_cast<const Contention*>(nullptr), world.setting.contention}) {
      ReplayOptions options;
      options.contention = c;
      Program one = small.program, each = whole.program;
      const Replay a = replay_at_clock(one, options);
      const Replay b = replay_at_clock(each, options);
      EXPECT_EQ(a.makespan, b.makespan) << to_text(l) << (c ? " contended" : " plain");
      EXPECT_EQ(*std::max_element(a.peak_memory.begin(), a.peak_memory.end()),
                *std::max_element(b.peak_memory.begin(), b.peak_memory.end()))
          << to_text(l);
      EXPECT_EQ(step_without_bubble(one, options), step_without_bubble(each, options))
          << to_text(l);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Clusters, FoldedLayouts,
                         testing::Values(FoldCase{2, 8, 120}, FoldCase{4, 6, 60},
                                         FoldCase{3, 8, 40}, FoldCase{2, 8, 40, "h200-sxm-141gb"},
                                         FoldCase{4, 6, 20, "h200-sxm-141gb"}));

// Skipping periods that recur changes no time of any operator, under measured contention tables
// too.
TEST(SteadyState, SkippingChangesNoTimeOfALayout) {
  for (const char* runtime : {"megatron-core", "steploom"}) {
    World world(small_moe(), 2, 1024, 768, runtime, "h200-sxm-141gb");
    const Space space = enumerate_layouts(world.setting);
    std::uint64_t random = 20261123;
    int skipped = 0;
    const int tries = kOneIn == 1 ? 24 : 6;
    for (int i = 0; i < tries; ++i) {
      const Layout& l = space.valid[next(random) % space.valid.size()];
      const Lowered lowered = lower(world.setting, l, world.cache);
      ReplayOptions all = world.setting.replaying();
      all.skip_periods = false;
      const Replay a = replay(lowered.program, all);
      const Replay b = replay(lowered.program, world.setting.replaying());
      EXPECT_EQ(a.start, b.start) << to_text(l);
      EXPECT_EQ(a.end, b.end) << to_text(l);
      skipped += b.skipped > 0;
    }
    EXPECT_GT(skipped, tries / 3) << runtime;
  }
}

// Two pipeline stages of 64 ranks fold to two devices when every group lies alike.
TEST(Fold, AlignedStagesBecomeOneDeviceEach) {
  World world("mixtral-8x7b", 8, 4096, 256);
  EXPECT_EQ(
      lower(world.setting, world.layout("tp=1,pp=4,ep=8"), world.cache).program.devices.size(), 4U);
}

// tp 4 on nodes of 6: ranks 4 to 7 straddle two nodes, ranks 0 to 3 do not.
TEST(Fold, StraddlingGroupsKeepRanksApart) {
  World world(small_moe(), 2, 1024, 48);
  world.cluster.devices_per_node = 6;
  world.cluster.nics_per_node = 6;
  const Lowered l = lower(world.setting, world.layout("tp=4,sp=1,etp=1,pp=1"), world.cache);
  EXPECT_GT(l.program.devices.size(), 1U);
}

// A ring of four over nodes of six folds to two devices, each of which sends to the other.
TEST(Lower, ARingOfTwoFoldedRanksPassesTheCheck) {
  World world(small_moe(), 2, 1024, 24);
  world.cluster.devices_per_node = world.cluster.nics_per_node = 6;
  const Lowered ring = lower(
      world.setting, world.layout("tp=1,pp=3,cp=4,stages=Et|tt|tL,mbs=6,zero=0"), world.cache);
  const auto faults = check(ring.program);
  EXPECT_TRUE(faults.empty()) << faults.front();
}

TEST(Lower, ProgramsPassTheCheck) {
  World world(small_moe(), 2, 1024, 48);
  const Space space = enumerate_layouts(world.setting);
  std::uint64_t random = 7;
  for (int i = 0; i < 40; ++i) {
    const Layout& l = space.valid[next(random) % space.valid.size()];
    for (const char* runtime : {"megatron-core", "steploom"}) {
      const Setting s{world.model, world.work, runtime_named(runtime), world.cluster, world.costs};
      const auto faults = check(lower(s, l, world.cache).program);
      EXPECT_TRUE(faults.empty()) << to_text(l) << " " << runtime << ": " << faults.front();
    }
  }
}

}  // namespace
}  // namespace steploom
