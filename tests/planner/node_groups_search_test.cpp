// Bounds, folding and search over node groups of several types of device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "models/flops.h"
#include "models/stages.h"
#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/make_plan.h"
#include "planner/mesh_bound.h"
#include "planner/proportionate_stages.h"
#include "planner/search.h"
#include "planner/space.h"
#include "sim/relax.h"
#include "sim/step_clock.h"
#include "tests/planner/mixed.h"

namespace steploom {
namespace {

constexpr const char* kH100 = "h100-sxm-80gb";
constexpr const char* kH200 = "h200-sxm-141gb";
constexpr const char* kA100 = "a100-sxm-80gb";

// Every third or so of a space, in a fixed order.
std::vector<Layout> sample_of(const Setting& s, std::size_t count) {
  const std::vector<Layout> all = enumerate_layouts(s).valid;
  std::vector<Layout> out;
  const std::size_t step = std::max<std::size_t>(1, all.size() / count) * kOneIn;
  for (std::size_t i = 0; i < all.size(); i += step) out.push_back(all[i]);
  return out;
}

void expect_ladder(MixedWorld& world, std::size_t count) {
  BoundModel bounds(world.setting, world.cache);
  const std::vector<Layout> layouts = sample_of(world.setting, count);
  ASSERT_GT(layouts.size() * kOneIn, count / 2);
  for (const Layout& l : layouts) {
    const Bound bound = bounds.bound(l);
    Lowered lowered = lower(world.setting, l, world.cache);
    Program plain = lowered.program;
    const Picoseconds relaxed = ClockedProgram(plain).relaxed();
    const Replay full = replay_at_clock(lowered.program, world.setting.replaying());
    EXPECT_LE(bound.step, full.makespan) << to_text(l);
    EXPECT_LE(relaxed, full.makespan) << to_text(l);
    if (!world.setting.knows_clocks()) {
      EXPECT_LE(bound.step, relaxed) << to_text(l);
    }
    Bytes most = full.peak_memory[0] - bound.limit;
    for (std::size_t d = 0; d < full.peak_memory.size(); ++d)
      most =
          std::max(most, full.peak_memory[d] -
                             world.setting.device_of_type(lowered.program.devices[d].type).memory);
    EXPECT_LE(bound.memory - bound.limit, most) << to_text(l);
  }
}

TEST(NodeGroupsLadder, OverTwoTypes) {
  MixedWorld world(small_moe(), mixed_cluster({{kH100, 1}, {kA100, 1}}, 4), 1024, 16);
  expect_ladder(world, 120);
}

// 2 + 1 nodes of 4: stages and experts' groups lie across the types.
TEST(NodeGroupsLadder, OverGroupsThatStagesStraddle) {
  MixedWorld world(small_moe(), mixed_cluster({{kA100, 2}, {kH100, 1}}, 4), 1024, 24, "steploom");
  expect_ladder(world, 80);
}

// A known clock beside an unknown one.
TEST(NodeGroupsLadder, WithAClock) {
  MixedWorld world(small_moe(), mixed_cluster({{kH100, 1}, {kH200, 1}}, 4), 1024, 16);
  expect_ladder(world, 80);
}

// Any rank of a group, slow or fast, may be the one with the most rows.
TEST(NodeGroupsLadder, UnderUnevenRouting) {
  MixedWorld world(small_moe(2), mixed_cluster({{kH100, 1}, {kA100, 1}, {kH100, 1}}, 2), 512, 12);
  world.work.routing.law = RoutingLaw::power_law;
  world.work.routing.parameter = 1;
  world.work.routing.samples = 1;
  expect_ladder(world, 80);
}

TEST(NodeGroups, FoldedEqualsUnfolded) {
  for (const char* other : {kA100, kH200}) {
    MixedWorld world(small_moe(), mixed_cluster({{kH100, 1}, {other, 2}}, 4), 1024, 24);
    for (const Layout& l : sample_of(world.setting, 25)) {
      Lowered one = lower(world.setting, l, world.cache);
      Lowered each = lower(world.setting, l, world.cache, Folding::unfolded);
      for (const Device& d : each.program.devices)
        EXPECT_EQ(d.type, world.cluster.type(static_cast<int>(&d - each.program.devices.data())));
      const Replay a = replay_at_clock(one.program, world.setting.replaying());
      const Replay b = replay_at_clock(each.program, world.setting.replaying());
      EXPECT_EQ(a.makespan, b.makespan) << to_text(l);
      EXPECT_EQ(*std::max_element(a.peak_memory.begin(), a.peak_memory.end()),
                *std::max_element(b.peak_memory.begin(), b.peak_memory.end()));
    }
  }
}

TEST(NodeGroups, TheSearchFindsWhatExhaustionFinds) {
  STEPLOOM_SKIP_UNDER_SANITIZERS();
  MixedWorld world(small_moe(3), mixed_cluster({{kH100, 1}, {kA100, 1}}, 2), 1020, 2);
  std::vector<Candidate> all;
  for (const Layout& l : enumerate_layouts(world.setting).valid) {
    const Candidate c = evaluate(world.setting, l, world.cache);
    if (c.fits()) all.push_back(c);
  }
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.step, a.layout) < std::tie(b.step, b.layout);
  });
  const SearchResult r = search(world.setting, SearchOptions{});
  ASSERT_EQ(r.best.size(), 5U);
  for (std::size_t i = 0; i < r.best.size(); ++i) {
    EXPECT_EQ(r.best[i].layout, all[i].layout) << to_text(all[i].layout);
    EXPECT_EQ(r.best[i].step, all[i].step);
  }
  EXPECT_EQ(r.valid, r.out_of_memory + r.pruned_bound + r.pruned_relaxed + r.replayed);
}

// Twice as fast, twice the layers.
TEST(NodeGroups, SplitsInProportion) {
  EXPECT_EQ(balanced_stages(std::vector<double>(12, 1.0), 0, 0, 2, {2, 1}),
            (std::vector<int>{8, 4}));
  EXPECT_EQ(balanced_stages(std::vector<double>(12, 1.0), 0, 0, 3, {1, 4, 1}),
            (std::vector<int>{2, 8, 2}));
  EXPECT_EQ(balanced_stages(std::vector<double>(12, 1.0), 0, 3, 2, {1, 2}),
            (std::vector<int>{5, 7}));

  // All splits from alike to the ratio of the peaks, 989.4 over 312.
  MixedWorld world(dense_model(24), mixed_cluster({{kH100, 1}, {kA100, 1}}, 2), 4096, 16);
  std::set<int> first;
  for (const std::vector<int>& split : proportionate_stages(world.setting, 2, 1))
    first.insert(split.front());
  for (int layers = 13; layers <= 18; ++layers) EXPECT_TRUE(first.contains(layers)) << layers;
  EXPECT_LE(*first.rbegin(), 19);
  EXPECT_TRUE(proportionate_stages(world.setting, 1, 1).empty());
  // Stages that each have some of the slower GPUs are alike, but for 0.2 % of memory.
  MixedWorld straddled(dense_model(24), mixed_cluster({{kH100, 1}, {kA100, 2}}, 2), 4096, 24);
  const TokenWork work = token_work(straddled.model, 4096);
  for (const std::vector<int>& split : proportionate_stages(straddled.setting, 2, 1))
    EXPECT_EQ(split, balanced_stages(work.layers, 0, work.head, 2));
  EXPECT_FALSE(proportionate_stages(straddled.setting, 3, 1).empty());
}

// The best of all has its layers in proportion to speed, and beats what all even stages reach; MFU
// is against all peaks together. Each type alone is planned beside it.
TEST(NodeGroups, ThePlanPutsMoreLayersOnFasterGpus) {
  MixedWorld world(dense_model(12), mixed_cluster({{kH100, 1}, {kA100, 1}}, 2), 2048, 8);
  PlanOptions options;
  options.top = 1;
  const Plan plan = make_plan(world.setting, world.profiles, options);
  const PlanRow& best = plan.rows.front();
  if (best.layout.pp > 1) {
    ASSERT_FALSE(best.layout.stages.empty());
    EXPECT_GT(best.layout.stages.front(), best.layout.stages.back());
  }
  const double seconds = static_cast<double>(best.step) * 1e-12;
  EXPECT_NEAR(best.mfu * seconds * (2 * 989.4e12 + 2 * 312e12),
              model_flops(world.model, world.work), 1e-9 * model_flops(world.model, world.work));
  ASSERT_EQ(plan.alone.size(), 2U);
  EXPECT_EQ(plan.alone[0].device, kH100);
  EXPECT_EQ(plan.alone[0].devices, 2);
  ASSERT_TRUE(plan.alone[0].best && plan.alone[1].best);
  EXPECT_LT(plan.alone[0].best->step, plan.alone[1].best->step);
  // Alone it is what a plan of such a cluster says.
  World h100(dense_model(12), 1, 2048, 8, "megatron-core", kH100);
  use_gpus(h100.cluster, 2);
  const SearchResult own = search(h100.setting, SearchOptions{});
  EXPECT_EQ(own.best.front().step, plan.alone[0].best->step);
  EXPECT_EQ(own.best.front().layout, plan.alone[0].best->layout);
}

}  // namespace
}  // namespace steploom
