// Layouts with woven passes, lowered: sound on every rung, as long as plain ones where
// communication is free, shorter where there is something to hide.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/gradient_choices.h"
#include "planner/lower.h"
#include "planner/schedule_times.h"
#include "planner/search.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "tests/planner/planning.h"
#include "tests/planner/schedule_costs.h"

namespace steploom {
namespace {

// Experts' exchanges go between nodes.
World two_nodes(const std::string& runtime, std::int64_t batch = 64) {
  return World(small_moe(8), 2, 1024, batch, runtime, "h200-sxm-141gb");
}

// Every rung, the check (every read behind its write) and the fold; a pair is one slot.
TEST(WovenLayouts, AreSound) {
  struct Case {
    const char* runtime;
    const char* text;
  };
  const Case cases[] = {{"megatron-core", "ep=8,mbs=1,weave=1"},
                        {"megatron-core", "pp=2,vpp=2,ep=4,weave=1"},
                        {"megatron-core", "pp=2,vpp=4,vpp_group=4,ep=8,zero=0,weave=1"},
                        {"megatron-core", "tp=2,sp=1,etp=1,pp=2,vpp=2,ep=8,weave=1"},
                        {"megatron-core", "pp=4,vpp=2,mbs=4,ep=2,weave=1"},
                        {"steploom", "pp=4,ep=4,weave=1"},
                        {"steploom", "ep=8,mbs=2,recompute=selective:layernorm,weave=1"},
                        {"steploom", "pp=4,vpp=2,ep=2,schedule=dualpipe-v,weave=1"},
                        {"steploom", "pp=2,vpp=2,ep=4,weave=1"}};
  for (const Case& c : cases) {
    const World world = two_nodes(c.runtime);
    CostCache costs(world.costs);
    const Setting& s = world.setting;
    const Layout l = world.layout(c.text);
    EXPECT_EQ(parse_layout(to_text(l), 16, true), l) << c.text;
    const auto refusal = refuse({s.model, s.work, l, 16, &s.runtime});
    ASSERT_FALSE(refusal.has_value()) << c.text << ": " << refusal->message;
    const Lowered folded = lower(s, l, costs);
    const Lowered whole = lower(s, l, costs, Folding::unfolded);
    const auto faults = check(whole.program);
    ASSERT_TRUE(faults.empty()) << c.text << ": " << faults.front();
    EXPECT_TRUE(std::any_of(folded.program.slots.begin(), folded.program.slots.end(),
                            [](const Slot& slot) { return slot.kind == SlotKind::pair; }))
        << c.text;
    const Replay a = replay(folded.program, s.replaying());
    const Replay b = replay(whole.program, s.replaying());
    EXPECT_EQ(a.makespan, b.makespan) << c.text;
    const Bound bound = BoundModel(s, costs).bound(l);
    const Picoseconds relaxed = relaxed_makespan(folded.program);
    EXPECT_LE(bound.step, relaxed) << c.text;
    EXPECT_LE(relaxed, a.makespan) << c.text;
    EXPECT_LE(bound.memory, *std::max_element(a.peak_memory.begin(), a.peak_memory.end()))
        << c.text;
  }
}

// On one stage the kernels run one after another, whatever the order: communication, the host and
// gaps free, woven passes take what plain ones take.
TEST(WovenLayouts, WithNothingToHideTakeAsLong) {
  const World world = two_nodes("megatron-core");
  CostCache costs(world.costs);
  const auto step = [&](const char* text) {
    Program p = lower(world.setting, world.layout(text), costs).program;
    for (BlockTemplate& block : p.blocks)
      for (std::size_t i = 0; i < block.ops.size(); ++i) {
        OpTemplate& op = block.ops[i];
        op.launch = 0;
        op.stream_gap = op.event_latency = 0;
        if (is_communication(block.infos[i].work.kind)) op.duration = 0;
      }
    return replay(p).makespan;
  };
  EXPECT_EQ(step("ep=8,weave=1"), step("ep=8"));
  EXPECT_EQ(step("tp=2,sp=1,etp=1,ep=8,weave=1"), step("tp=2,sp=1,etp=1,ep=8"));
}

// Kernels and exchanges are beside each other: less than both one after the other, and no less than
// either.
TEST(WovenLayouts, HideExchanges) {
  const World world = two_nodes("megatron-core");
  CostCache costs(world.costs);
  const auto load = [&](const Program& p, StreamKind stream) {
    Picoseconds sum = 0;
    const Device& d = p.devices.front();
    for (std::uint32_t s = d.first_slot; s < d.first_slot + d.slot_count; ++s)
      for (const OpTemplate& op : p.blocks[p.slots[s].block].ops)
        if (op.stream == static_cast<std::uint16_t>(stream)) sum += op.duration;
    return sum;
  };
  for (const std::string text : {"ep=8,mbs=2", "ep=16,mbs=1"}) {
    const Program plain = lower(world.setting, world.layout(text), costs).program;
    const Program woven = lower(world.setting, world.layout(text + ",weave=1"), costs).program;
    const Picoseconds exchanges = load(woven, StreamKind::ep);
    EXPECT_EQ(load(plain, StreamKind::ep), exchanges);
    EXPECT_EQ(load(plain, StreamKind::compute), load(woven, StreamKind::compute));
    const Picoseconds before = replay(plain).makespan, after = replay(woven).makespan;
    EXPECT_GE(after, std::max(load(woven, StreamKind::compute), exchanges));
    EXPECT_LT(after, before - exchanges / 3) << text;
  }
}

// 1F1B with pairs: legal, and no rank waits between its pairs, however many there are: twice the
// micro-batches take just as many pairs more, for stages alike, one chunk a rank or several.
TEST(WovenLayouts, PairsFollowOneAnother) {
  const StageCosts costs{10, 20, 0, 0, 0, 1, 0, 6};
  for (const int p : {1, 2, 4})
    for (const int v : {1, 2, 3})
      for (const int group : {p, 2 * p}) {
        const auto step = [&](std::int64_t m) {
          ScheduleSlots slots;
          for (int r = 0; r < p; ++r) slots.push_back(interleaved(r, {p, v, group, m, true}));
          const ScheduleTimes times =
              times_of(even_problem(Placement::loop, {p, v, group, m}, costs), slots);
          EXPECT_EQ(times.fault, "") << p << ' ' << v;
          return times.step;
        };
        const std::int64_t m = 8 * p;
        EXPECT_EQ(step(2 * m) - step(m), m * v * (10 + 20 - 6)) << p << ' ' << v << ' ' << group;
      }
}

TEST(WovenLayouts, RulesSayWhatDoesNotGoTogether) {
  const World world = two_nodes("megatron-core");
  const auto why = [&](const char* text, const char* runtime, const char* routing = nullptr) {
    Workload work = world.work;
    if (routing != nullptr) work.routing = parse_routing(routing, "test");
    const Layout l = world.layout(text);
    const Runtime& r = runtime_named(runtime);
    const auto refusal = refuse({world.model, work, l, 16, &r});
    return refusal ? refusal->message : std::string();
  };
  EXPECT_EQ(why("ep=8,weave=1", "megatron-core"), "");
  EXPECT_NE(why("ep=1,weave=1", "megatron-core").find("choose ep > 1"), std::string::npos);
  EXPECT_NE(why("pp=2,ep=8,weave=1", "megatron-core").find("choose vpp > 1 or pp=1"),
            std::string::npos);
  EXPECT_EQ(why("pp=2,ep=8,weave=1", "steploom"), "");
  EXPECT_NE(why("ep=8,zero=0,weave=1", "megatron-2022").find("leave it out"), std::string::npos);
  EXPECT_NE(why("ep=8,recompute=full,weave=1", "megatron-core").find("must not run again"),
            std::string::npos);
  EXPECT_NE(why("ep=8,recompute=selective:moe,weave=1", "steploom").find("must not run again"),
            std::string::npos);
  EXPECT_NE(why("ep=8,chunks=2,weave=1", "steploom").find("leave these out"), std::string::npos);
  EXPECT_NE(why("pp=2,ep=8,schedule=zb-h1,weave=1", "steploom").find("1f1b or dualpipe-v"),
            std::string::npos);
  EXPECT_NE(why("ep=8,weave=1", "steploom", "power-law:1.0").find("must be balanced"),
            std::string::npos);
}

// The search takes them up by itself, with a bound of their own that holds.
TEST(WovenLayouts, AreSearched) {
  World world(small_moe(4), 1, 2048, 16, "megatron-core", "h200-sxm-141gb");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
  const Layout l = world.layout("ep=4,mbs=1");
  const auto choices = gradient_choices(world.setting, l);
  ASSERT_EQ(choices.size(), 2U);
  EXPECT_EQ(choices[0].placed, l);
  EXPECT_TRUE(choices[1].placed.weave);
  EXPECT_EQ(gradient_choices(world.setting, world.layout("pp=2,ep=2")).size(), 1U);
}

}  // namespace
}  // namespace steploom
