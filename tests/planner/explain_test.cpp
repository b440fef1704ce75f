#include "planner/explain.h"

#include <gtest/gtest.h>

#include <numeric>

#include "models/flops.h"
#include "planner/make_plan.h"
#include "planner/robustness.h"
#include "sim/engine.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

Picoseconds step(const Program& p) {
  return replay(p).makespan;
}

// One stage waits for nobody; with several, taking the waiting away leaves the slowest stage alone.
TEST(Knockout, BubbleIsWhatStagesWait) {
  World world(small_moe(8), 1, 1024, 32);
  const Program one =
      lower(world.setting, world.layout("tp=8,sp=1,etp=1,ep=8"), world.cache).program;
  EXPECT_EQ(step_without_bubble(one, {}), step(one));
  const Program four = lower(world.setting, world.layout("pp=4"), world.cache).program;
  const Picoseconds free = step_without_bubble(four, {});
  EXPECT_LT(free, step(four));
  // Two kinds of stage (the first is dense) and their fill and drain: with m = 16 the closed form
  // for equal stages, (p − 1)/(m + p − 1) = 16 %, is not far.
  const double bubble = 1 - static_cast<double>(free) / static_cast<double>(step(four));
  EXPECT_NEAR(bubble, 3.0 / 19, 0.05);
}

TEST(Knockout, TakingAwayCommunicationNeverAddsTimeWithoutContention) {
  World world(small_moe(8), 2, 1024, 32);
  const Program p =
      lower(world.setting, world.layout("tp=2,sp=1,etp=1,ep=4,pp=2"), world.cache).program;
  const Picoseconds whole = step(p);
  const Picoseconds none = step_without_communication(p, {});
  EXPECT_LT(none, whole);
  const auto collectives = collectives_in(p);
  EXPECT_GE(collectives.size(), 6U);
  for (const GroupCollective& c : collectives) {
    const Picoseconds without = step_without(p, c, {});
    EXPECT_LE(without, whole) << name_of(c);
    EXPECT_GE(without, none) << name_of(c);
  }
  EXPECT_LE(step_without_host(p, {}), whole);
  EXPECT_EQ(step_without_contention(p), whole);
}

// A pipeline whose last stage has the vocabulary's head is held up by it; evened out it is faster.
TEST(Knockout, ImbalanceIsTheSlowestStagesExcess) {
  ModelSpec m = small_moe(8);
  m.layer_is_moe.assign(8, true);
  m.vocab = 256000;
  World world(m, 1, 1024, 64);
  const Program p = lower(world.setting, world.layout("pp=4"), world.cache).program;
  EXPECT_LT(static_cast<double>(step_without_imbalance(p, {})), 0.9 * static_cast<double>(step(p)));
}

TEST(Explain, SharesOfTheCriticalPathAddUpToTheStep) {
  World world(small_moe(8), 2, 1024, 32);
  const Contention tables = neutral_contention(kKernelClasses);
  const Program p =
      lower(world.setting, world.layout("tp=2,sp=1,etp=1,ep=4,pp=2,recompute=full"), world.cache)
          .program;
  const Explanation e = explain(p, {&tables});
  const auto sum = [](const auto& parts) {
    return std::accumulate(parts.begin(), parts.end(), Picoseconds{0});
  };
  EXPECT_EQ(sum(e.path.by_kind) + e.path.host + e.path.waiting, e.step);
  EXPECT_EQ(sum(e.path.by_provenance) + e.path.host + e.path.waiting, e.step);
  EXPECT_GT(e.recompute, 0);
  EXPECT_GT(e.communication_exposed, 0);
  for (const CommunicationTime& c : e.communication) EXPECT_LE(c.hidden(), c.busy);
  EXPECT_GT(surely_known(e.path), 0);
  EXPECT_LT(surely_known(e.path), 1);
}

TEST(Explain, WarnsOfWhatShouldMakeAReaderDoubt) {
  PlanRow row;
  row.mfu = 0.75;
  row.exposed_communication = 0;
  EXPECT_EQ(warnings(0.4, row, 2).size(), 3U);
  row.mfu = 0.5;
  row.exposed_communication = 0.1;
  EXPECT_TRUE(warnings(0.6, row, 2).empty());
}

TEST(Robustness, DrawsAreFixedAndWithinTheSpread) {
  const auto draws = network_draws();
  ASSERT_EQ(draws.size(), static_cast<std::size_t>(kDraws));
  double mean = 0;
  for (const Draw& d : draws) {
    EXPECT_GE(d.bandwidth, 0.8);
    EXPECT_LE(d.bandwidth, 1.2);
    EXPECT_GE(d.latency, 0.8);
    EXPECT_LE(d.latency, 1.2);
    mean += d.bandwidth / kDraws;
  }
  EXPECT_NEAR(mean, 1, 0.02);
  EXPECT_DOUBLE_EQ(draws[0].bandwidth, 1.0);  // Halton: 1/2
}

// On one node the network between nodes is not used: the order stays, whatever is drawn.
TEST(Robustness, OneNodeDoesNotDependOnTheNetwork) {
  World world(small_moe(), 1, 1024, 32);
  const SearchResult found = search(world.setting, SearchOptions{});
  const auto sure = robustness(world.setting, world.profile, found.best, 1);
  EXPECT_DOUBLE_EQ(sure[0].stays_best, 1);
  EXPECT_DOUBLE_EQ(sure[0].worst_regret, 0);
}

// Executed FLOPs without recomputation exceed the model's by attention's fifth product and the
// routers only; with full recomputation by about a third more.
TEST(MakePlan, ExecutedFlops) {
  World world("llama-3.1-8b", 1, 4096, 8);
  const double model = model_flops(world.model, world.work);
  const double none =
      executed_flops(lower(world.setting, world.layout("tp=8,sp=1"), world.cache).program);
  const double full = executed_flops(
      lower(world.setting, world.layout("tp=8,sp=1,recompute=full"), world.cache).program);
  EXPECT_GT(none / model, 1.0);
  EXPECT_LT(none / model, 1.03);
  EXPECT_NEAR(full / model, 4.0 / 3, 0.04);
}

// 6.7 B parameters: 2 + 4 + 12 bytes each without sharding; with ZeRO-1 the 12 go over dp.
TEST(MemoryParts, FollowTheClosedForm) {
  World world("llama-2-7b", 1, 4096, 64);
  const Layout plain = world.layout("zero=0");
  const StageParameters all = parameters_of(world.model, plain, rank_spans(world.model, plain, 0));
  const std::int64_t n = all.total();
  EXPECT_EQ(n, 6'738'415'616);
  const MemoryParts whole =
      fixed_memory(world.setting, plain, all, std::vector<CommunicatorUse>(3));
  EXPECT_EQ(whole.parameters + whole.gradients + whole.optimizer, 18 * n);
  EXPECT_EQ(whole.sharded + whole.replicated + whole.experts, 18 * n);
  EXPECT_EQ(whole.buffers, 3 * world.setting.runtime.communicator_buffers);
  const MemoryParts sharded = fixed_memory(world.setting, world.layout("zero=1"), all, {});
  EXPECT_EQ(sharded.optimizer, 12 * n / 8);
}

// Two communicators over NVLink: 16 CTAs for tensor parallelism (rings), 8 for experts of four
// ranks (messages to three peers and a ring), and one that is never used.
TEST(MemoryParts, CommunicatorsTakeWhatTheirCtasAndKindsDo) {
  World world("llama-2-7b", 1, 4096, 64);
  const std::vector<CommunicatorUse> uses{
      {{2, 1, 2}, 16, true, false}, {{4, 1, 4}, 8, true, true}, {{8, 1, 8}, 0, false, false}};
  // Not measured: the runtime's figure.
  EXPECT_EQ(communicator_memory(world.setting, uses),
            3 * world.setting.runtime.communicator_buffers);
  Profile profile = built_in_profile("h200-sxm-141gb");
  for (ProfiledFabric& f : profile.fabrics)
    if (f.name == "nvlink")
      f.memory = CommunicatorMemory{{388, 4, 6}, {186, 1, 12}, {62, 2, 12}, 196, "by hand"};
  const Cluster cluster = load_cluster("h200-sxm-141gb", 1);
  const CostModel costs(profile, cluster);
  const Setting s{world.model, world.work, world.setting.runtime, cluster, costs};
  const Bytes once = 388 + 186 + 62;
  const Bytes tp = 4 + 6 * 16 + 1 + 12 * 16;
  const Bytes ep = 4 + 6 * 8 + 1 + 12 * 8 + 3 * (2 + 12 * 8);
  EXPECT_EQ(communicator_memory(s, uses), once + tp + ep + 196);
  EXPECT_EQ(communicator_memory(s, std::span(uses).first(1)), 388 + 186 + tp);
  EXPECT_EQ(communicator_memory(s, {}), 0);
  // Between nodes nothing was measured.
  const std::vector<CommunicatorUse> far{{{2, 2, 1}, 16, true, false}};
  EXPECT_EQ(communicator_memory(s, far), world.setting.runtime.communicator_buffers);
}

}  // namespace
}  // namespace steploom
