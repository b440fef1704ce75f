#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/search.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "sim/step_clock.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

struct LadderCase {
  const char* name;
  ModelSpec model;
  int nodes;
  int per_node;
  std::int64_t batch;
  const char* runtime;
  const char* cluster = "h100-sxm-80gb";  // its profile holds no contention tables
};

class Ladder : public testing::TestWithParam<LadderCase> {};

// The clock is sought on every rung: bound, longest path, plain replay, replay.
void expect_clocked_ladder(const Setting& setting, const Bound& bound, Program program,
                           const std::string& name) {
  Program contended = program;
  ClockedProgram clocked(program);
  const Picoseconds relaxed = clocked.relaxed();
  EXPECT_FALSE(clocked.may_beat(relaxed)) << name;
  const Picoseconds plain = clocked.replay({}).makespan;
  EXPECT_LE(bound.step, plain) << name;
  EXPECT_LE(relaxed, plain) << name;
  EXPECT_LE(plain - relaxed, 2 * plain / kClockTolerance) << name;
  const Picoseconds full = replay_at_clock(contended, setting.replaying()).makespan;
  EXPECT_LE(relaxed, full) << name;
}

void expect_ladder(const Setting& setting, CostCache& cache) {
  BoundModel bounds(setting, cache);
  std::vector<Layout> all = enumerate_layouts(setting).valid;
  ASSERT_GT(all.size(), 50U);
  // The space holds tp_overlap only where interference is measured; the rungs hold everywhere.
  for (std::size_t i = 0, n = all.size(); i < n; ++i) {
    Layout l = all[i];
    if (!setting.runtime.overlaps_tp || !l.sp || l.tp_overlap) continue;
    l.tp_overlap = true;
    if (!refuse({setting.model, setting.work, l, setting.cluster.devices(), &setting.runtime,
                 setting.cluster.devices_per_node}))
      all.push_back(l);
  }
  int shared = 0, overlapped = 0;
  for (std::size_t i = 0, step = step_of(all.size(), 150); i < all.size(); i += step) {
    const Layout& l = all[i];
    if (l.chunks == 2 || l.chunks == 8) continue;  // for time; 1 and 4 stay
    if ((l.cp > 1 || l.zero > 1 || l.replicate > 1) && ++shared % 25 != 0) continue;  // likewise
    if (l.tp_overlap && ++overlapped % 4 != 1) continue;                              // likewise
    const Bound bound = bounds.bound(l);
    Lowered lowered = lower(setting, l, cache);
    if (lowered.program.clock.known()) {
      expect_clocked_ladder(setting, bound, lowered.program, to_text(l));
    }
    const Replay full = replay_at_clock(lowered.program, setting.replaying());
    const Picoseconds relaxed = relax(lowered.program).makespan;
    EXPECT_EQ(relaxed, replay(lowered.program).makespan) << to_text(l);
    EXPECT_EQ(relaxed, relaxed_makespan(lowered.program)) << to_text(l);
    EXPECT_LE(relaxed, full.makespan) << to_text(l);
    EXPECT_LE(bound.step, full.makespan) << to_text(l);
    EXPECT_LE(bound.memory, *std::max_element(full.peak_memory.begin(), full.peak_memory.end()))
        << to_text(l);
    if (setting.costs.clock_law().known()) continue;
    EXPECT_LE(bound.step, relaxed) << to_text(l);
  }
  EXPECT_EQ(overlapped > 0, setting.runtime.overlaps_tp);
}

// Over whole small spaces: closed form <= longest path <= replay, and the closed-form memory floor
// never exceeds the replayed peak.
TEST_P(Ladder, EachRungIsALowerBoundOfTheNext) {
  const LadderCase& c = GetParam();
  World world(c.model, c.nodes, 1024, c.batch, c.runtime, c.cluster);
  world.cluster.devices_per_node = world.cluster.nics_per_node = c.per_node;
  expect_ladder(world.setting, world.cache);
}

// Exact points for every other shape of the first layouts, each far off in its own direction, and
// curves between nodes that are too fast and too slow.
Profile with_scattered_points(const World& world, CostCache& cache) {
  Profile p = world.profile;
  std::map<PointKey, KernelPoint> points;
  std::size_t seen = 0;
  for (const Layout& l : enumerate_layouts(world.setting).valid) {
    if (points.size() > 400) break;
    for (const BlockTemplate& block : lower(world.setting, l, cache).program.blocks)
      for (std::size_t i = 0; i < block.ops.size(); ++i) {
        const Work& w = block.infos[i].work;
        if (is_communication(w.kind) || block.ops[i].duration == 0 || ++seen % 2 == 0) continue;
        const double us = static_cast<double>(block.ops[i].duration) * 1e-6 *
                          std::vector<double>{0.2, 3, 1.01, 0.7, 1.9}[points.size() % 5];
        points.try_emplace(point_key(w), KernelPoint{w, "scattered", us, us, us, 9});
      }
  }
  for (const auto& [key, point] : points) p.points.kernels.push_back(point);
  for (const auto& [kind, thousandths] : {std::pair{OpKind::all_gather, 0},
                                          {OpKind::all_to_all, 13000},
                                          {OpKind::reduce_scatter, 12000}})
    for (const int ranks : {2, 4, 8}) {
      CollectiveCurve c{
          kind, ranks, {{make_axis("bytes", {1024, 1e10})}, {thousandths, thousandths}}};
      c.nodes = 2;
      p.collectives.push_back(c);
    }
  return p;
}

TEST(LadderWithPoints, EachRungIsALowerBoundOfTheNext) {
  World world(small_moe(), 2, 1024, 16);
  world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
  const Profile profile = with_scattered_points(world, world.cache);
  ASSERT_GT(profile.points.kernels.size(), 50U);
  const CostModel costs(profile, world.cluster);
  const Setting setting{world.model,   world.work, world.setting.runtime,
                        world.cluster, costs,      &world.contention};
  CostCache cache(costs);
  expect_ladder(setting, cache);
}

// Every class is scaled alike wherever it runs, so what was below stays below.
TEST(LadderCalibrated, EachRungIsALowerBoundOfTheNext) {
  World world(small_moe(2), 1, 1024, 8, "megatron-core", "h200-sxm-141gb");
  Calibration calibration;
  for (std::size_t c = 0; c < calibration.classes.size(); ++c)
    calibration.classes[c] = {1000, c % 2 == 0 ? 1990 : 510};
  const CostModel costs(world.profile, world.cluster, &calibration);
  const Setting setting{world.model,   world.work, world.setting.runtime,
                        world.cluster, costs,      &world.contention};
  CostCache cache(costs);
  expect_ladder(setting, cache);
}

ModelSpec small_dense() {
  ModelSpec m = small_moe(8);
  m.name = "small-dense";
  m.moe.reset();
  m.layer_is_moe.assign(8, false);
  m.tied_embeddings = true;
  return m;
}

INSTANTIATE_TEST_SUITE_P(
    Spaces, Ladder,
    testing::Values(LadderCase{"moe8", small_moe(), 1, 8, 16, "megatron-core", "h200-sxm-141gb"},
                    LadderCase{"moe16", small_moe(), 2, 8, 16, "steploom"},
                    LadderCase{"moe12", small_moe(), 2, 6, 24, "megatron-core"},
                    LadderCase{"dense16", small_dense(), 2, 8, 32, "megatron-core"},
                    LadderCase{"windows8", small_everything(), 1, 8, 16, "megatron-core"},
                    LadderCase{"dense8", small_dense(), 1, 8, 16, "steploom"},
                    LadderCase{"dense12", small_dense(), 2, 6, 24, "steploom", "h200-sxm-141gb"}),
    [](const auto& info) { return info.param.name; });

// The search prunes, yet finds what an exhaustive replay of the space finds, for any threads.
TEST(Search, FindsWhatExhaustionFinds) {
  STEPLOOM_SKIP_UNDER_SANITIZERS();
  // Tokens of which 2·cp divides none but 4, so that the space stays small.
  World world(small_moe(), 2, 1020, 4, "megatron-core", "h200-sxm-141gb");
  std::vector<Candidate> all;
  for (const Layout& l : enumerate_layouts(world.setting).valid) {
    const Candidate c = evaluate(world.setting, l, world.cache);
    if (c.memory <= world.cluster.device.memory) all.push_back(c);
  }
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.step, a.layout) < std::tie(b.step, b.layout);
  });
  SearchOptions options;
  for (const unsigned threads : {1U, 2U, 3U}) {
    options.threads = threads;
    const SearchResult r = search(world.setting, options);
    ASSERT_EQ(r.best.size(), 5U);
    for (std::size_t i = 0; i < r.best.size(); ++i) {
      EXPECT_EQ(r.best[i].layout, all[i].layout) << to_text(all[i].layout);
      EXPECT_EQ(r.best[i].step, all[i].step);
    }
    EXPECT_LT(r.replayed, static_cast<std::int64_t>(all.size()) / 2);
    EXPECT_EQ(r.valid, r.out_of_memory + r.pruned_bound + r.pruned_relaxed + r.replayed);
  }
}

// A search that ends at once has looked at the first batch, and says what the rest may hold.
TEST(Search, GivenLittleTimeBoundsWhatItHasNotSeen) {
  STEPLOOM_SKIP_UNDER_SANITIZERS();
  World world(small_moe(), 2, 1020, 8, "megatron-core", "h200-sxm-141gb");
  SearchOptions options;
  options.top = 1;
  const SearchResult whole = search(world.setting, options);
  EXPECT_EQ(whole.unseen, 0);
  options.seconds = 1e-9;
  const SearchResult r = search(world.setting, options);
  ASSERT_FALSE(r.best.empty());
  EXPECT_GT(r.unseen, 0);
  EXPECT_GT(r.floor, 0);
  EXPECT_LE(std::min(r.floor, r.best[0].step), whole.best[0].step);
  EXPECT_GE(r.best[0].step, whole.best[0].step);
  EXPECT_EQ(r.valid, r.out_of_memory + r.pruned_bound + r.pruned_relaxed + r.replayed + r.unseen);
}

TEST(Search, SaysWhichLayoutCameNearestWhenNothingFits) {
  World world("llama-3.1-405b", 1, 4096, 16);
  const SearchResult r = search(world.setting, SearchOptions{});
  EXPECT_TRUE(r.best.empty());
  ASSERT_TRUE(r.smallest.has_value());
  EXPECT_GT(r.smallest->second, world.cluster.device.memory);
}

}  // namespace
}  // namespace steploom
