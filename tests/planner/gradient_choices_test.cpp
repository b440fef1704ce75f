// Choices of gradients in the search: their bounds, and that none is lost.
#include "planner/gradient_choices.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/schedule_choices.h"
#include "planner/search.h"
#include "planner/space.h"
#include "sim/relax.h"
#include "sim/step_clock.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

std::vector<Layout> all_choices(const Setting& s, const Layout& l) {
  std::vector<Layout> out;
  for (const GradientChoices& c : gradient_choices(s, l)) {
    out.push_back(c.placed);
    out.insert(out.end(), c.reduced.begin(), c.reduced.end());
  }
  return out;
}

TEST(GradientChoices, AreThoseThatTheLayoutAndTheRuntimeAllow) {
  World own(small_moe(), 1, 1024, 8, "steploom"), megatron(small_moe(), 1, 1024, 8);
  const auto count = [](const World& w, const char* text) {
    return all_choices(w.setting, w.layout(text)).size();
  };
  EXPECT_EQ(count(megatron, "ep=8"), 1U);
  // Woven too, where contention was measured and there are pairs; with several stages Megatron-Core
  // needs several chunks for that.
  const World measured(small_moe(), 1, 1024, 16, "megatron-core", "h200-sxm-141gb");
  EXPECT_EQ(count(measured, "ep=8"), 2U);
  EXPECT_EQ(count(measured, "ep=8,mbs=2"), 1U);
  EXPECT_EQ(count(measured, "pp=2,ep=4"), 1U);
  EXPECT_EQ(count(own, "ep=8"), 3U + 2 + 2);
  EXPECT_EQ(count(own, "ep=1"), 3U);                  // nothing is exchanged: buckets alone
  EXPECT_EQ(count(own, "ep=8,dw=lancet"), 1U);        // the layout says itself
  EXPECT_EQ(count(own, "tp=8,sp=1,ep=8,etp=1"), 3U);  // nothing is reduced
  int valid = 0, placed = 0;
  for (const Layout& l : enumerate_layouts(own.setting).valid)
    for (const Layout& choice : all_choices(own.setting, l)) {
      EXPECT_FALSE(refuse({own.model, own.work, choice, 8, &own.setting.runtime}))
          << to_text(choice);
      ++valid;
      placed += choice.dw == WeightPlacement::solved ? 1 : 0;
    }
  EXPECT_GT(placed, valid / 4);
  // Expert packing: fewer ranks than devices share the experts, each holds more of them.
  for (const Layout& l : enumerate_layouts(own.setting).valid)
    if (l.ep == 2 && l.expert_dp() == 4) return;
  FAIL() << "no ep of 2 on 8 devices";
}

// Closed form <= longest path <= replay for every choice, and the floor of a layout's reductions is
// one of each of them.
TEST(GradientChoices, EachRungIsALowerBoundOfTheNext) {
  for (const char* cluster : {"h100-sxm-80gb", "h200-sxm-141gb"}) {
    World world(small_everything(), 1, 1020, 4, "steploom", cluster);
    BoundModel bounds(world.setting, world.cache);
    int seen = 0;
    for (const Layout& l : enumerate_layouts(world.setting).valid) {
      if (++seen % (kOneIn * 97) != 0) continue;
      for (const GradientChoices& choices : gradient_choices(world.setting, l)) {
        std::vector<Layout> all{choices.placed};
        for (std::size_t i = 0; i < choices.reduced.size(); ++i) all.push_back(choices.reduced[i]);
        const Picoseconds bound = bounds.bound(choices.placed).step;
        const Lowered as_runtime = lower(world.setting, choices.placed, world.cache);
        for (const Layout& choice : all) {
          EXPECT_EQ(bounds.bound(choice).step, bound) << to_text(choice);
          Lowered lowered = lower(world.setting, choice, world.cache);
          ClockedProgram clocked(lowered.program);
          const Picoseconds relaxed = clocked.relaxed();
          const Replay full = clocked.replay(world.setting.replaying());
          EXPECT_LE(relaxed, full.makespan) << to_text(choice);
          EXPECT_LE(bound, full.makespan) << to_text(choice);
          EXPECT_TRUE(may_beat_reduced(world.setting, as_runtime.program, full.makespan + 1))
              << to_text(choice);
          if (world.costs.clock_law().known()) continue;
          EXPECT_LE(bound, relaxed) << to_text(choice);
        }
      }
    }
    EXPECT_GT(seen, 100);
  }
}

// The search finds the best of all choices of all layouts.
TEST(GradientChoices, TheSearchLosesNone) {
  STEPLOOM_SKIP_UNDER_SANITIZERS();
  World world(small_moe(2), 1, 1020, 4, "steploom", "h200-sxm-141gb");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 2;
  Candidate best;
  std::vector<Layout> scheduled;
  for (const Layout& l : enumerate_layouts(world.setting).valid)
    for (const Layout& choice : schedule_choices(world.setting, l)) scheduled.push_back(choice);
  for (const Layout& l : scheduled)
    for (const Layout& choice : all_choices(world.setting, l)) {
      const Candidate c = evaluate(world.setting, choice, world.cache);
      if (c.memory > world.cluster.device.memory) continue;
      if (best.step == 0 || std::tie(c.step, c.layout) < std::tie(best.step, best.layout)) best = c;
    }
  for (const unsigned threads : {1U, 2U}) {
    SearchOptions options;
    options.threads = threads;
    const SearchResult r = search(world.setting, options);
    EXPECT_EQ(r.best.front().step, best.step) << to_text(best.layout);
    EXPECT_EQ(r.valid, r.out_of_memory + r.pruned_bound + r.pruned_relaxed + r.replayed);
  }
}

}  // namespace
}  // namespace steploom
