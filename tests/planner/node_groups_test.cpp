// Steps over node groups of several types of device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "models/error.h"
#include "planner/fullest_rank.h"
#include "planner/lower.h"
#include "planner/search.h"
#include "sim/kernel_class.h"
#include "sim/relax.h"
#include "sim/step_clock.h"
#include "tests/planner/mixed.h"

namespace steploom {
namespace {

constexpr const char* kH100 = "h100-sxm-80gb";
constexpr const char* kH200 = "h200-sxm-141gb";
constexpr const char* kA100 = "a100-sxm-80gb";
constexpr const char* kV100 = "v100-sxm-32gb";

Replay step_of(const MixedWorld& world, CostCache& cache, const std::string& layout) {
  Lowered lowered = lower(world.setting, world.layout(layout), cache);
  return replay_at_clock(lowered.program, world.setting.replaying());
}
Picoseconds makespan_of(MixedWorld& world, const std::string& layout) {
  return step_of(world, world.cache, layout).makespan;
}

// Two groups of one type are one group, in every number.
TEST(NodeGroups, OfOneTypeCostWhatOneGroupCosts) {
  for (const char* cluster : {kH100, kH200}) {
    Cluster parted = mixed_cluster({{cluster, 1}, {cluster, 2}, {cluster, 1}}, 8);
    MixedWorld two(small_moe(), parted, 1024, 64);
    World one(small_moe(), 4, 1024, 64, "megatron-core", cluster);
    ASSERT_EQ(two.setting.types(), 1U);
    for (const char* layout :
         {"tp=2,pp=2,ep=4,etp=1,mbs=1,sp=1,zero=1", "tp=1,pp=4,ep=8,etp=1,mbs=1,zero=0",
          "tp=4,pp=1,ep=8,etp=1,mbs=2,sp=1,zero=3,recompute=full",
          "tp=2,pp=2,vpp=2,ep=2,etp=2,mbs=1,sp=1,zero=1"}) {
      Lowered a = lower(two.setting, two.layout(layout), two.cache);
      Lowered b = lower(one.setting, one.layout(layout), one.cache);
      const Replay r = replay_at_clock(a.program, two.setting.replaying());
      const Replay s = replay_at_clock(b.program, one.setting.replaying());
      EXPECT_EQ(r.makespan, s.makespan) << cluster << " " << layout;
      EXPECT_EQ(r.peak_memory, s.peak_memory);
      EXPECT_EQ(a.program.devices.size(), b.program.devices.size());
      const Candidate c = evaluate(two.setting, two.layout(layout), two.cache);
      const Candidate d = evaluate(one.setting, one.layout(layout), one.cache);
      EXPECT_EQ(c.closed_form, d.closed_form);
      EXPECT_EQ(c.relaxed, d.relaxed);
    }
  }
}

// The replicas on the slower GPUs have as much to do as the others: the step takes at least what
// they take, and, with networks alike, at most what it would if all were as slow.
TEST(NodeGroups, TheSlowestReplicaSetsTheStep) {
  Cluster mixed = mixed_cluster({{kH100, 1}, {kA100, 1}}, 8);
  Cluster slow = mixed_cluster({{kA100, 2}}, 8);
  Cluster node = mixed_cluster({{kA100, 1}}, 8);
  for (const char* runtime : {"megatron-core", "steploom"}) {
    MixedWorld both(dense_model(4), mixed, 2048, 32, runtime);
    MixedWorld two_slow(dense_model(4), slow, 2048, 32, runtime);
    MixedWorld one_slow(dense_model(4), node, 2048, 16, runtime);
    const Picoseconds step = makespan_of(both, "tp=8,sp=1,mbs=1,zero=0");
    EXPECT_GE(step, makespan_of(one_slow, "tp=8,sp=1,mbs=1,zero=0"));
    EXPECT_LE(step, makespan_of(two_slow, "tp=8,sp=1,mbs=1,zero=0"));
  }
}

// Time of a device's stream of kernels in one of its blocks, gaps included.
Picoseconds load_of(const BlockTemplate& block) {
  Picoseconds sum = 0;
  for (const OpTemplate& op : block.ops)
    if (op.stream == static_cast<std::uint16_t>(StreamKind::compute))
      sum += op.duration + op.stream_gap;
  return sum;
}
// Of a forward and a backward pass.
Picoseconds pass_of(const Program& p, const Device& d) {
  Picoseconds sum = 0;
  for (std::uint32_t i = d.slot_count / 2; i < d.slot_count / 2 + 2; ++i)
    sum += load_of(p.blocks[p.slots[d.first_slot + i].block]);
  return sum;
}

// 1F1B on two stages: one micro-batch through the faster, all through the slower; messages take
// next to nothing.
TEST(NodeGroups, ThePipelinesSlowestStageSetsTheStep) {
  constexpr int kMicroBatches = 64;
  for (const std::vector<GroupOf>& groups :
       std::vector<std::vector<GroupOf>>{{{kH100, 1}, {kA100, 1}}, {{kA100, 1}, {kH100, 1}}}) {
    Cluster cluster = mixed_cluster(groups, 1);
    for_each_network(cluster, [](LinkType& nic) { nic.bandwidth = 1e14; });
    MixedWorld world(dense_model(8), cluster, 4096, kMicroBatches);
    for (const char* stages : {"Et*4|t*4L", "Et*7|tL", "Et|t*7L"}) {
      const Layout l = world.layout("pp=2,mbs=1,zero=0,stages=" + std::string(stages));
      const Lowered lowered = lower(world.setting, l, world.cache);
      const Program& p = lowered.program;
      ASSERT_EQ(p.devices.size(), 2U);
      EXPECT_NE(p.devices[0].type, p.devices[1].type);
      const Picoseconds a = pass_of(p, p.devices[0]), b = pass_of(p, p.devices[1]);
      const double expected =
          static_cast<double>(kMicroBatches * std::max(a, b) + std::min(a, b) +
                              load_of(p.blocks[p.slots[p.devices[0].slot_count - 1].block]));
      EXPECT_NEAR(static_cast<double>(replay(p).makespan) / expected, 1, 0.01) << stages;
    }
  }
}

// An H100 does two to three times an A100's work in a time.
TEST(NodeGroups, LayersInProportionBeatAnEvenSplit) {
  MixedWorld world(dense_model(16), mixed_cluster({{kH100, 1}, {kA100, 1}}, 8), 4096, 64);
  const auto step = [&](const std::string& stages) {
    return static_cast<double>(makespan_of(world, "tp=8,pp=2,sp=1,mbs=1,zero=0,stages=" + stages));
  };
  const double even = step("Et*8|t*8L"), fitting = step("Et*11|t*5L"), wrong = step("Et*5|t*11L");
  EXPECT_LT(fitting, 0.8 * even);
  EXPECT_GT(wrong, 1.2 * even);
}

// A collective of two types takes as long as the slower of them alone; one of a single type what
// that type takes.
TEST(NodeGroups, CollectivesGoAtTheSlowerTypesPace) {
  MixedWorld world(small_moe(), mixed_cluster({{kH100, 1}, {kA100, 1}}, 8), 1024, 64);
  const Setting fast = world.setting.of_type(0), slow = world.setting.of_type(1);
  const Lowered lowered =
      lower(world.setting, world.layout("tp=4,ep=8,etp=1,mbs=1,sp=1,zero=1"), world.cache);
  const Program& p = lowered.program;
  int over_both = 0, inside = 0;
  for (std::size_t d = 0; d < p.devices.size(); ++d) {
    const Device& device = p.devices[d];
    const BlockTemplate& optimizer =
        p.blocks[p.slots[device.first_slot + device.slot_count - 1].block];
    const BlockTemplate& forward = p.blocks[p.slots[device.first_slot].block];
    for (const BlockTemplate* block : {&forward, &optimizer})
      for (std::size_t i = 0; i < block->ops.size(); ++i) {
        const OpInfo& info = block->infos[i];
        if (block->ops[i].role == kNoRole || block->ops[i].duration == 0) continue;
        const bool dp = info.group == CommGroup::dp, tp = info.group == CommGroup::tp;
        if (!dp && !tp) continue;
        const GroupShape shape = dp ? GroupShape{4, 2, 2} : GroupShape{4, 1, 4};
        const CostQuery q{info.work, shape, 0, info.parts};
        const Picoseconds own = world.setting.of_type(device.type).costs.cost(q).time;
        const Picoseconds slowest = std::max(fast.costs.cost(q).time, slow.costs.cost(q).time);
        EXPECT_EQ(block->ops[i].duration, dp ? slowest : own) << info.name;
        (dp ? over_both : inside) += 1;
      }
  }
  EXPECT_GT(over_both, 0);
  EXPECT_GT(inside, 0);
}

// A message too, be it small enough that its sender does not wait.
TEST(NodeGroups, MessagesGoAtTheSlowerNicsPace) {
  MixedWorld world(small_moe(), mixed_cluster({{kH100, 1}, {kA100, 1}}, 8), 256, 64);
  const Lowered lowered =
      lower(world.setting, world.layout("tp=8,pp=2,ep=8,etp=1,mbs=1,sp=1,zero=0"), world.cache);
  const Program& p = lowered.program;
  std::vector<Picoseconds> sent;
  for (const BlockTemplate& block : p.blocks)
    for (std::size_t i = 0; i < block.ops.size(); ++i)
      if (block.ops[i].sender) {
        EXPECT_TRUE(block.ops[i].eager);
        sent.push_back(block.ops[i].duration);
      }
  ASSERT_GE(sent.size(), 2U);
  EXPECT_EQ(*std::min_element(sent.begin(), sent.end()),
            *std::max_element(sent.begin(), sent.end()));
  // A faster NIC draws the less of its own.
  bool some = false;
  for (const Communicator& c : p.communicators)
    if (c.name.starts_with("dp"))
      continue;
    else if (c.members.size() == 2 && c.uses.size() == 2) {
      some = true;
      EXPECT_EQ(std::max(c.uses[0].share, c.uses[1].share), kFullRate) << c.name;
      EXPECT_EQ(std::min(c.uses[0].share, c.uses[1].share), kFullRate / 2) << c.name;
    }
  EXPECT_TRUE(some);
}

// What fits 80 GB does not fit a V100's 32.
TEST(NodeGroups, EveryRankMustFitItsOwnDevice) {
  MixedWorld world(dense_model(16), mixed_cluster({{kH100, 1}, {kV100, 1}}, 8), 4096, 16,
                   "megatron-2022", Precision::fp16);
  const auto fits = [&](const char* text) {
    Lowered lowered = lower(world.setting, world.layout(text), world.cache);
    const Replay r = replay_at_clock(lowered.program, world.setting.replaying());
    const FullestRank fullest = fullest_rank(world.setting, lowered.program, r.peak_memory);
    EXPECT_LT(fullest.peak, world.setting.device_of_type(0).memory);
    EXPECT_EQ(evaluate(world.setting, world.layout(text), world.cache).fits(),
              fullest.peak <= fullest.limit);
    if (fullest.peak > fullest.limit) {
      EXPECT_EQ(lowered.program.devices[fullest.device].type, 1);
      EXPECT_EQ(fullest.limit, world.setting.device_of_type(1).memory);
    }
    return fullest.peak <= fullest.limit;
  };
  EXPECT_FALSE(fits("pp=2,mbs=1,zero=0,recompute=full,stages=Et*5|t*11L"));
  EXPECT_TRUE(fits("pp=2,mbs=1,zero=0,recompute=full,stages=Et*12|t*4L"));
}

// The clock of a step is sought on those devices whose profile knows it; others keep their times.
TEST(NodeGroups, EachTypeHasItsOwnClock) {
  MixedWorld world(dense_model(8), mixed_cluster({{kH200, 1}, {kH100, 1}}, 8), 4096, 64);
  Lowered lowered = lower(world.setting, world.layout("tp=8,pp=2,sp=1,mbs=1,zero=0"), world.cache);
  Program& p = lowered.program;
  ASSERT_TRUE(clocks_unknown(p));
  const std::vector<OpTemplate> before = p.blocks[p.slots[p.devices[1].first_slot].block].ops;
  Program copy = p;
  const Picoseconds relaxed = ClockedProgram(copy).relaxed();
  const Replay r = replay_at_clock(p, world.setting.replaying());
  EXPECT_FALSE(clocks_unknown(p));
  EXPECT_LE(relaxed, r.makespan);
  ASSERT_EQ(p.devices[0].type, 0);
  ASSERT_EQ(p.devices[1].type, 1);
  EXPECT_GT(p.devices[0].mhz, 1000);
  EXPECT_EQ(p.devices[1].mhz, 0);
  const std::vector<OpTemplate>& after = p.blocks[p.slots[p.devices[1].first_slot].block].ops;
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_EQ(before[i].duration, after[i].duration);
}

// Tables of both types, each for its own devices.
TEST(NodeGroups, EachTypeHasItsOwnInterference) {
  MixedWorld world(small_moe(), mixed_cluster({{kH100, 1}, {kH200, 1}}, 8), 1024, 16);
  ASSERT_NE(world.setting.contention, nullptr);
  EXPECT_EQ(world.setting.contention->classes(), 2U * kKernelClasses);
  EXPECT_FALSE(slows_nothing(*world.setting.contention));
  EXPECT_TRUE(slows_nothing(*world.setting.of_type(0).contention));
  const Lowered lowered =
      lower(world.setting, world.layout("tp=2,ep=4,etp=1,mbs=1,sp=1,zero=1"), world.cache);
  const Program& p = lowered.program;
  EXPECT_EQ(p.kernel_classes.size(), 2U * kKernelClasses);
  for (const Device& d : p.devices)
    for (std::uint32_t s = 0; s < d.slot_count; ++s)
      for (const OpTemplate& op : p.blocks[p.slots[d.first_slot + s].block].ops)
        EXPECT_EQ(op.kernel_class / kKernelClasses, d.type);
}

}  // namespace
}  // namespace steploom
