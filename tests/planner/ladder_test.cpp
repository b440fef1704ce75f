#include <gtest/gtest.h>

#include <algorithm>

#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/search.h"
#include "sim/engine.h"
#include "sim/relax.h"
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

// Over whole small spaces: closed form <= longest path <= replay, and the closed-form memory floor
// never exceeds the replayed peak.
TEST_P(Ladder, EachRungIsALowerBoundOfTheNext) {
  const LadderCase& c = GetParam();
  World world(c.model, c.nodes, 1024, c.batch, c.runtime, c.cluster);
  world.cluster.devices_per_node = world.cluster.nics_per_node = c.per_node;
  BoundModel bounds(world.setting, world.cache);
  const Space space = enumerate_layouts(world.setting);
  ASSERT_GT(space.valid.size(), 50U);
  for (const Layout& l : space.valid) {
    const Bound bound = bounds.bound(l);
    const Lowered lowered = lower(world.setting, l, world.cache);
    const Picoseconds relaxed = relax(lowered.program).makespan;
    const Replay plain = replay(lowered.program);
    const Replay full = replay(lowered.program, world.setting.replaying());
    EXPECT_LE(bound.step, relaxed) << to_text(l);
    EXPECT_EQ(relaxed, plain.makespan) << to_text(l);
    EXPECT_EQ(relaxed, relaxed_makespan(lowered.program)) << to_text(l);
    EXPECT_LE(relaxed, full.makespan) << to_text(l);
    EXPECT_LE(bound.memory, *std::max_element(full.peak_memory.begin(), full.peak_memory.end()))
        << to_text(l);
  }
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
                    LadderCase{"dense8", small_dense(), 1, 8, 16, "steploom"},
                    LadderCase{"dense12", small_dense(), 2, 6, 24, "steploom", "h200-sxm-141gb"}),
    [](const auto& info) { return info.param.name; });

// The search prunes, yet finds what an exhaustive replay of the space finds, for any threads.
TEST(Search, FindsWhatExhaustionFinds) {
  World world(small_moe(), 2, 1024, 16, "megatron-core", "h200-sxm-141gb");
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

TEST(Search, SaysWhichLayoutCameNearestWhenNothingFits) {
  World world("llama-3.1-405b", 1, 4096, 16);
  const SearchResult r = search(world.setting, SearchOptions{});
  EXPECT_TRUE(r.best.empty());
  ASSERT_TRUE(r.smallest.has_value());
  EXPECT_GT(r.smallest->second, world.cluster.device.memory);
}

}  // namespace
}  // namespace steploom
