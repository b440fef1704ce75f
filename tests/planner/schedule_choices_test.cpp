// Pipeline schedules in the search: which there are, that their bounds hold and that none is lost.
#include "planner/schedule_choices.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "planner/bounds.h"
#include "planner/gradient_choices.h"
#include "planner/search.h"
#include "planner/space.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

TEST(ScheduleChoices, AreThoseThatTheLayoutAndTheRuntimeAllow) {
  World own(small_moe(), 1, 1024, 16, "steploom"), megatron(small_moe(), 1, 1024, 16);
  const auto names = [](const World& w, const char* text) {
    std::string all;
    for (const Layout& l : schedule_choices(w.setting, w.layout(text)))
      all += std::string(name_of(l.schedule)) + " ";
    return all;
  };
  EXPECT_EQ(names(own, "tp=8"), "1f1b ");  // no pipeline
  EXPECT_EQ(names(megatron, "pp=4"), "1f1b ");
  const std::string line = names(own, "pp=4");
  for (const char* name : {"1f1b", "gpipe", "zb-h1", "zb-h2", "searched"})
    EXPECT_NE(line.find(std::string(name) + " "), std::string::npos) << line;
  EXPECT_EQ(names(own, "pp=4,schedule=zb-h2"), line);
  EXPECT_EQ(names(own, "pp=2,vpp=2").find("gpipe"), std::string::npos);
}

// Chunks that 1F1B does not take, three micro-batches on two ranks of three stages, are left to
// orders that do.
TEST(ScheduleChoices, TheSpaceHoldsLayoutsThatOnlyOtherOrdersTake) {
  World own(small_moe(6), 1, 1024, 3, "steploom");
  own.cluster.devices_per_node = own.cluster.nics_per_node = 2;
  Runtime runtime = own.setting.runtime;
  for (const int ahead : {0, 1}) {
    runtime.receive_ahead = ahead;  // 1: too few buffers for looped-bfs
    int found = 0;
    for (const Layout& l :
         enumerate_layouts({own.model, own.work, runtime, own.cluster, own.costs}).valid)
      found += l.pp == 2 && l.vpp == 3 && l.micro_batch == 1;
    EXPECT_EQ(found > 0, ahead == 0);
  }
}

// Two devices and a dense model.
struct Small : World {
  Small() : World(model_of(), 1, 1024, 8, "steploom", "h200-sxm-141gb") {
    cluster.devices_per_node = cluster.nics_per_node = 2;
  }
  static ModelSpec model_of() {
    ModelSpec m = small_moe(4);
    m.layer_is_moe.assign(4, false);
    m.moe.reset();
    return m;
  }
  std::vector<Layout> choices(const Layout& l) const {
    std::vector<Layout> out;
    for (const Layout& scheduled : schedule_choices(setting, l))
      for (const GradientChoices& c : gradient_choices(setting, scheduled)) {
        out.push_back(c.placed);
        out.insert(out.end(), c.reduced.begin(), c.reduced.end());
      }
    return out;
  }
};

// The search finds the best of all schedules of all layouts, with all memory that there is and with
// as much as a quarter of the pipelines fit.
TEST(ScheduleChoices, TheSearchLosesNone) {
  STEPLOOM_SKIP_UNDER_SANITIZERS();
  Small world;
  const std::vector<Layout> space = enumerate_layouts(world.setting).valid;
  std::vector<Bytes> needs;
  for (const Layout& l : space)
    if (l.pp == 2) needs.push_back(evaluate(world.setting, l, world.cache).memory);
  ASSERT_FALSE(needs.empty());
  std::sort(needs.begin(), needs.end());
  std::set<PipelineOrder> winners;
  for (const bool tight : {false, true}) {
    if (tight) world.cluster.device.memory = needs[needs.size() / 4];
    std::vector<Candidate> all;
    BoundModel bounds(world.setting, world.cache);
    for (const Layout& l : space) {
      Candidate best;
      for (const Layout& choice : world.choices(l)) {
        const Candidate c = evaluate(world.setting, choice, world.cache);
        const Bound bound = bounds.bound(choice);
        EXPECT_LE(bound.step, c.step) << to_text(choice);
        EXPECT_LE(bound.memory, c.memory) << to_text(choice);
        if (c.memory > world.cluster.device.memory) continue;
        if (best.step == 0 || c.step < best.step) best = c;
      }
      if (best.step == 0) continue;
      all.push_back(best);
    }
    std::sort(all.begin(), all.end(),
              [](const Candidate& a, const Candidate& b) { return a.step < b.step; });
    SearchOptions options;
    options.top = static_cast<int>(all.size());
    const SearchResult every = search(world.setting, options);
    ASSERT_EQ(every.best.size(), all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(every.best[i].step, all[i].step) << to_text(all[i].layout);
      winners.insert(every.best[i].layout.schedule);
    }
    options.top = 3;
    const SearchResult few = search(world.setting, options);
    ASSERT_EQ(few.best.size(), std::min<std::size_t>(3, all.size()));
    for (std::size_t i = 0; i < few.best.size(); ++i) EXPECT_EQ(few.best[i].step, all[i].step);
    EXPECT_EQ(few.valid, few.out_of_memory + few.pruned_bound + few.pruned_relaxed + few.replayed);
  }
  EXPECT_GE(winners.size(), 3U);
}

}  // namespace
}  // namespace steploom
