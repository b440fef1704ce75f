// Steps whose experts exchange rows by DeepEP's kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/memory_parts.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "sim/expert_exchange.h"
#include "sim/portable_math.h"
#include "sim/relax.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

// The first operator of a name, with what it costs.
struct Found {
  OpTemplate op;
  OpInfo info;
};
Found find(const Lowered& lowered, const std::string& name) {
  for (const BlockTemplate& b : lowered.program.blocks)
    for (std::size_t i = 0; i < b.ops.size(); ++i)
      if (b.infos[i].name == name) return {b.ops[i], b.infos[i]};
  ADD_FAILURE() << name;
  return {};
}

TEST(DeepEpSteps, TakeTheTimeAndTheSmsOfTheModel) {
  World world(small_moe(), 2, 1024, 32, "megatron-core", "h200-sxm-141gb");
  const CollectiveModel collectives(world.profile, world.cluster);
  for (const int ep : {4, 8}) {
    for (const int sms : {0, 4, 24}) {
      const std::string text = "tp=1,ep=" + std::to_string(ep) + ",dispatcher=deepep" +
                               (sms > 0 ? ",ctas.ep=" + std::to_string(sms) : "");
      const Lowered lowered = lower(world.setting, world.layout(text), world.cache);
      EXPECT_TRUE(check(lowered.program).empty()) << text;
      for (const char* name : {"dispatch", "combine", "combine backward", "dispatch backward"}) {
        const Found f = find(lowered, name);
        const int taken = sms > 0 ? sms : kExchangeSms;
        EXPECT_EQ(f.op.sms_wanted, taken);
        const GroupShape group{ep, 1, ep};
        EXPECT_EQ(f.op.duration,
                  to_picoseconds(
                      collectives.time(rows_exchanged(f.info.work, group), group, taken).seconds))
            << text << " " << name;
      }
    }
  }
}

// Closed form ≤ longest path ≤ replay, in memory too; so with a node limit.
TEST(DeepEpSteps, BoundsAreBelowReplays) {
  World world(small_moe(), 2, 1024, 32);
  world.model.moe->experts = 32;
  for (const char* routing : {"balanced", "balanced,nodes=1"}) {
    world.work.routing = parse_routing(routing, "x");
    BoundModel bounds(world.setting, world.cache);
    for (const char* text :
         {"tp=1,ep=8,dispatcher=deepep", "tp=1,ep=16,dispatcher=deepep,ctas.ep=8",
          "tp=1,pp=2,ep=8,dispatcher=deepep,recompute=full",
          "tp=2,sp=1,ep=8,etp=1,dispatcher=deepep"}) {
      const Layout l = world.layout(text);
      const Lowered lowered = lower(world.setting, l, world.cache);
      EXPECT_TRUE(check(lowered.program).empty()) << text;
      const Replay full = replay(lowered.program, world.setting.replaying());
      const Picoseconds path = relaxed_makespan(lowered.program);
      const Bound bound = bounds.bound(l);
      EXPECT_LE(bound.step, path) << text << " " << routing;
      EXPECT_LE(path, full.makespan) << text << " " << routing;
      EXPECT_LE(bound.memory, *std::max_element(full.peak_memory.begin(), full.peak_memory.end()))
          << text << " " << routing;
    }
  }
}

// 32 experts on two nodes: a token that visits both sends more than one that visits one.
TEST(DeepEpSteps, ANodeLimitSendsLess) {
  World world(small_moe(), 2, 1024, 32, "megatron-core", "h200-sxm-141gb");
  world.model.moe->experts = 32;
  const Layout l = world.layout("tp=1,ep=16,dispatcher=deepep,ctas.ep=8");
  const Lowered both = lower(world.setting, l, world.cache);
  world.work.routing = parse_routing("balanced,nodes=1", "x");
  const Lowered one = lower(world.setting, l, world.cache);
  EXPECT_LT(replay(one.program, world.setting.replaying()).makespan,
            replay(both.program, world.setting.replaying()).makespan);
  EXPECT_LT(find(one, "combine").op.duration, find(both, "combine").op.duration);
}

// Queues of DeepEP for 24 SMs, rows of 2048 + 2056 bytes: 12 · 8 · 256 of them in a node, and
// 12 · (8 · 288 + 2 · 2 · 128) on two.
TEST(DeepEpSteps, BuffersByHand) {
  World world(small_moe(), 2, 1024, 32, "megatron-core", "h200-sxm-141gb");
  world.model.moe->experts = 32;
  const auto buffers = [&](const std::string& text) {
    return fixed_memory(world.setting, world.layout(text), {}, {}).buffers;
  };
  EXPECT_EQ(buffers("tp=1,ep=16"), 0);
  EXPECT_EQ(buffers("tp=1,ep=8,dispatcher=deepep,ctas.ep=24"), Bytes{12} * 8 * 256 * (2048 + 2056));
  EXPECT_EQ(buffers("tp=1,ep=16,dispatcher=deepep,ctas.ep=24"),
            Bytes{12} * (8 * 288 + 2 * 2 * 128) * (2048 + 2056));
  EXPECT_EQ(buffers("tp=1,ep=8,dispatcher=deepep"),
            buffers("tp=1,ep=8,dispatcher=deepep,ctas.ep=20"));
}

}  // namespace
}  // namespace steploom
