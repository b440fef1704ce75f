// Routing through lowering, bounds, search and the plan file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "models/atomic_file.h"
#include "models/error.h"
#include "planner/bounds.h"
#include "planner/knockout.h"
#include "planner/lower.h"
#include "planner/make_plan.h"
#include "planner/samples.h"
#include "planner/search.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "tests/planner/planning.h"
#include "tests/temp_folder.h"

namespace steploom {
namespace {

Routing recorded(const ModelSpec& m, const std::vector<std::int64_t>& tokens) {
  Routing r;
  r.law = RoutingLaw::recorded;
  r.name = "recorded.json";
  for (int layer = 0; layer < m.layers; ++layer)
    if (m.is_moe(layer)) r.recorded.push_back({layer, {tokens}});
  return r;
}

const std::vector<const char*> kLayouts{
    "tp=1,pp=1,ep=8",
    "tp=1,pp=2,ep=4,chunks=2",
    "tp=2,pp=1,ep=8,etp=1,sp=1,mbs=2",
    "tp=2,pp=2,ep=2,etp=2,sp=1",
    "tp=1,pp=1,ep=1",
    "tp=1,pp=2,ep=8,recompute=full",
    "tp=1,pp=2,vpp=2,ep=4",
};

// A recording in which every expert has the same is balanced routing: the same ranks fold, and
// every time is the same.
TEST(Routing, AnEvenRecordingIsBalanced) {
  World world(small_moe(), 2, 1024, 32, "megatron-core", "h200-sxm-141gb");
  for (const char* text : kLayouts) {
    const Layout l = world.layout(text);
    world.work.routing = {};
    const Lowered balanced = lower(world.setting, l, world.cache);
    world.work.routing = recorded(world.model, std::vector<std::int64_t>(8, 5));
    const Lowered even = lower(world.setting, l, world.cache);
    EXPECT_EQ(even.program.devices.size(), balanced.program.devices.size()) << text;
    EXPECT_EQ(even.routing.busiest, 1) << text;
    const Replay a = replay(balanced.program, world.setting.replaying());
    const Replay b = replay(even.program, world.setting.replaying());
    EXPECT_EQ(a.end, b.end) << text;
    EXPECT_EQ(a.peak_memory, b.peak_memory) << text;
  }
}

// Expert-parallel ranks differ, their replicas do not; folded equals unfolded to the picosecond.
TEST(Routing, FoldedEqualsUnfolded) {
  for (const char* routing :
       {"power-law:1.2", "log-normal:0.8,capacity=1.25", "balanced,nodes=1"}) {
    World world(small_moe(), 2, 1024, 32, "megatron-core", "h200-sxm-141gb");
    world.work.routing = parse_routing(routing, "x");
    for (const char* text : kLayouts) {
      const Layout l = world.layout(text);
      const Lowered small = lower(world.setting, l, world.cache);
      const Lowered whole = lower(world.setting, l, world.cache, Folding::unfolded);
      EXPECT_LE(small.program.devices.size(), whole.program.devices.size()) << text;
      if (world.work.routing.random()) {
        EXPECT_EQ(small.program.devices.size(), static_cast<std::size_t>(l.pp * l.ep)) << text;
      }
      EXPECT_TRUE(check(small.program).empty());
      for (const ReplayOptions& options : {ReplayOptions{}, world.setting.replaying()}) {
        EXPECT_EQ(replay(small.program, options).makespan, replay(whole.program, options).makespan)
            << text << " " << routing;
        EXPECT_EQ(step_without_communication(small.program, options),
                  step_without_communication(whole.program, options))
            << text;
      }
    }
  }
}

// Loads that differ from micro-batch to micro-batch do not recur; those that come round do, and
// skipping their periods changes no time.
TEST(Routing, PeriodsAreSkippedOnlyWhereLoadsRecur) {
  World world(small_moe(), 1, 1024, 256);
  const Layout l = world.layout("tp=1,pp=2,ep=4");
  Routing round = recorded(world.model, {1, 1, 1, 9, 1, 1, 1, 1});
  for (RecordedLayer& layer : round.recorded) layer.tokens.push_back({1, 1, 1, 1, 1, 5, 1, 1});
  Routing draw = parse_routing("log-normal:1", "x");
  for (const auto& [routing, recurs] : {std::pair{round, true}, {draw, false}}) {
    world.work.routing = routing;
    const Lowered lowered = lower(world.setting, l, world.cache);
    ReplayOptions options = world.setting.replaying();
    const Replay some = replay(lowered.program, options);
    options.skip_periods = false;
    const Replay all = replay(lowered.program, options);
    EXPECT_EQ(some.end, all.end);
    EXPECT_EQ(some.skipped > 0, recurs);
    EXPECT_EQ(makespan(lowered.program, world.setting.replaying()), all.makespan);
  }
}

// One expert has nine times the rows of the others: its rank's products are the longest, and the
// exchange that all ranks take part in lasts as long for each of them. Of 1792 rows of a source it
// has 896, one a token, the others 128 each.
TEST(Routing, TheFullestRankWorksLongest) {
  World world(small_moe(), 1, 896, 8);
  world.work.routing = recorded(world.model, {1, 1, 1, 9, 1, 1, 1, 1});
  const Lowered l = lower(world.setting, world.layout("tp=1,pp=1,ep=8"), world.cache);
  ASSERT_EQ(l.program.devices.size(), 2U);  // rank 3, and the seven others
  EXPECT_EQ(l.program.devices[0].multiplicity, 7);
  EXPECT_DOUBLE_EQ(l.routing.busiest, 4);  // half of all rows, the most that top-2 allows
  std::vector<Picoseconds> products(2), exchanges(2);
  for (std::size_t d = 0; d < 2; ++d) {
    const Slot& slot = l.program.slots[l.program.devices[d].first_slot];
    const BlockTemplate& block = l.program.blocks[slot.block];
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      const Picoseconds time = duration_in(l.program, slot, block.ops[i]);
      if (block.infos[i].work.kind == OpKind::grouped_matmul) products[d] += time;
      if (block.infos[i].work.kind == OpKind::all_to_all) exchanges[d] += time;
    }
  }
  EXPECT_GT(products[1], 3 * products[0]);
  EXPECT_EQ(exchanges[0], exchanges[1]);
  world.work.routing = {};
  const Lowered even = lower(world.setting, world.layout("tp=1,pp=1,ep=8"), world.cache);
  EXPECT_GT(replay(l.program).makespan, replay(even.program).makespan);
  EXPECT_LE(step_without_imbalance(l.program, {}), replay(even.program).makespan);
}

// Of rows to and from the NICs only, or of rows inside a node: what is even costs what it did.
TEST(Routing, UnevenExchangesCostTheirBusiestLink) {
  World world(small_moe(), 2, 1024, 8);
  const GroupShape group{16, 2, 8};
  Work w;
  w.kind = OpKind::all_to_all;
  w.bytes = Bytes{64} << 20;
  const Picoseconds even = world.costs.cost({w, group}).time;
  EXPECT_EQ(world.costs.cost({w, group, 0, 1, w.bytes}).time, even);
  // The NICs bound it: half as much or twice as much over NVLink changes nothing.
  EXPECT_EQ(world.costs.cost({w, group, 0, 1, w.bytes / 2}).time, even);
  EXPECT_EQ(world.costs.cost({w, group, 0, 1, w.bytes * 2}).time, even);
  EXPECT_GT(world.costs.cost({w, group, 0, 1, w.bytes * 64}).time, even);
}

// For every draw: closed form <= longest path <= replay.
TEST(Routing, BoundsHoldForEveryDraw) {
  for (const char* routing :
       {"power-law:1.2", "log-normal:2", "power-law:1.01,capacity=1.1", "log-normal:0.5,nodes=1"}) {
    World world(small_moe(), 2, 1024, 16, "megatron-core", "h200-sxm-141gb");
    world.work.routing = parse_routing(routing, "x");
    BoundModel bounds(world.setting, world.cache);
    const Space space = enumerate_layouts(world.setting);
    int looked_at = 0;
    for (std::size_t i = 0; i < space.valid.size(); i += 61 * step_of(space.valid.size() / 61, 4)) {
      const Layout& l = space.valid[i];
      const Bound bound = bounds.bound(l);
      const Setting one = of_sample(world.setting, static_cast<int>(i % 5));
      const Lowered lowered = lower(one, l, world.cache);
      const Picoseconds relaxed = relaxed_makespan(lowered.program);
      EXPECT_LE(bound.step, relaxed) << to_text(l) << " " << routing;
      EXPECT_LE(relaxed, replay(lowered.program, one.replaying()).makespan) << to_text(l);
      ++looked_at;
    }
    EXPECT_GE(looked_at, kOneIn == 1 ? 10 : 4);
  }
}

TEST(Samples, QuantilesAreRanks) {
  EXPECT_EQ(quantile_rank(0.5, 16), 8);
  EXPECT_EQ(quantile_rank(0.95, 16), 16);
  EXPECT_EQ(quantile_rank(0.95, 20), 19);
  EXPECT_EQ(quantile_rank(0.01, 16), 1);
  EXPECT_EQ(quantile_rank(1, 3), 3);
}

TEST(Samples, AreTheQuantileOfTheDraws) {
  World world(small_moe(), 1, 1024, 8);
  world.work.routing = parse_routing("log-normal:1", "x");
  world.work.routing.samples = 5;
  const Layout l = world.layout("tp=1,pp=1,ep=8");
  std::vector<Picoseconds> steps;
  for (int i = 0; i < 5; ++i)
    steps.push_back(replay(lower(of_sample(world.setting, i), l, world.cache).program,
                           world.setting.replaying())
                        .makespan);
  std::vector<Picoseconds> sorted = steps;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_LT(sorted.front(), sorted.back());
  world.work.routing.quantile = 0.8;
  const Candidate c = evaluate(world.setting, l, world.cache);
  EXPECT_EQ(c.step, sorted[3]);
  EXPECT_EQ(c.step, steps[static_cast<std::size_t>(c.sample)]);
  EXPECT_EQ(c.median, sorted[2]);
  EXPECT_EQ(c.p95, sorted[4]);
  EXPECT_LE(c.closed_form, c.relaxed);
  EXPECT_LE(c.relaxed, c.step);
}

// The search for a quantile prunes, and finds what exhaustion finds.
TEST(Samples, SearchFindsWhatExhaustionFinds) {
  STEPLOOM_SKIP_UNDER_SANITIZERS();
  for (const double quantile : {0.5, 0.95}) {
    World world(small_moe(2), 1, 512, 4);
    world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
    world.work.routing = parse_routing("power-law:1.2", "x");
    world.work.routing.samples = 3;
    world.work.routing.quantile = quantile;
    std::vector<Candidate> all;
    for (const Layout& l : enumerate_layouts(world.setting).valid)
      all.push_back(evaluate(world.setting, l, world.cache));
    std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
      return std::tie(a.step, a.layout) < std::tie(b.step, b.layout);
    });
    SearchOptions options;
    options.top = 3;
    for (const unsigned threads : {1U, 2U}) {
      options.threads = threads;
      const SearchResult r = search(world.setting, options);
      ASSERT_EQ(r.best.size(), 3U);
      for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(r.best[i].layout, all[i].layout) << to_text(all[i].layout);
        EXPECT_EQ(r.best[i].step, all[i].step);
        EXPECT_EQ(r.best[i].sample, all[i].sample);
      }
      EXPECT_LT(r.replayed, static_cast<std::int64_t>(all.size()) / 2);
    }
  }
}

// A plan keeps the routing whole: law and seed, or the recording with its digest.
TEST(Routing, PlanFilesKeepIt) {
  World world(small_moe(2), 1, 512, 8);
  world.cluster.devices_per_node = world.cluster.nics_per_node = 2;
  const TempFolder folder;
  const auto file = folder / "plan.json";
  for (Routing r : {parse_routing("power-law:1.2,capacity=1.25", "x"),
                    recorded(world.model, {1, 2, 3, 4, 5, 6, 7, 8})}) {
    r.seed = 7;
    r.samples = 2;
    world.work.routing = r;
    PlanOptions options;
    options.top = 2;
    const Plan plan = make_plan(world.setting, world.profile, options);
    save_plan(plan, file);
    const Plan read = load_plan(file);
    EXPECT_EQ(to_json(read), to_json(plan));
    EXPECT_EQ(to_text(read.work.routing), to_text(r));
    EXPECT_EQ(read.work.routing.recorded.size(), r.recorded.size());
    EXPECT_GE(plan.rows[0].busiest, 1);
    EXPECT_EQ(plan.rows[0].p95 > 0, r.random());
    EXPECT_EQ(plan.rows[0].dropped > 0, r.capacity > 0);
  }
  std::string text = to_json(load_plan(file));
  text.replace(text.find("\"tokens\": [\n            1,") + 24, 1, "9");
  write_file_atomically(file, [&](std::ostream& out) { out << text; });
  EXPECT_THROW(load_plan(file), Error);
}

}  // namespace
}  // namespace steploom
