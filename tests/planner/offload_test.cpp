// Experts in host memory: what is copied when, by hand, and where their bytes are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "models/error.h"
#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/space.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "sim/step_clock.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

using testing::HasSubstr;

constexpr Picoseconds kUs = 1'000'000;

ModelSpec experts_everywhere(int layers) {
  ModelSpec m = small_moe(layers);
  m.layer_is_moe[0] = true;
  return m;
}

// Of one operator of a step.
struct Ran {
  std::string name;
  int layer;
  Phase phase;
  Picoseconds start, end;  // us
};

// What all operators of the first rank do; `duration`: in us, of those that take any.
class HandTimed {
 public:
  using Duration = std::function<Picoseconds(const OpInfo&)>;

  HandTimed(World& world, const std::string& layout, const Duration& duration) {
    Lowered lowered = lower(world.setting, world.layout(layout), world.cache);
    Program& p = lowered.program;
    EXPECT_TRUE(check(p).empty());
    for (BlockTemplate& b : p.blocks)
      for (std::size_t i = 0; i < b.ops.size(); ++i) {
        b.ops[i].launch = b.ops[i].stream_gap = b.ops[i].event_latency = 0;
        b.ops[i].duration = duration(b.infos[i]) * kUs;
      }
    const Replay r = replay(p);
    step = r.makespan / kUs;
    for (std::uint32_t s = 0; s < p.devices[0].slot_count; ++s) {
      const BlockTemplate& b = p.blocks[p.slots[s].block];
      for (std::size_t i = 0; i < b.ops.size(); ++i) {
        const std::uint32_t id = p.slots[s].first_op + static_cast<std::uint32_t>(i);
        ran.push_back({b.infos[i].name, b.infos[i].layer, b.infos[i].work.phase, r.start[id] / kUs,
                       r.end[id] / kUs});
      }
    }
  }

  const Ran& at(const std::string& name, Phase phase, int layer) const {
    const auto found = std::find_if(ran.begin(), ran.end(), [&](const Ran& one) {
      return one.name == name && one.phase == phase && one.layer == layer;
    });
    EXPECT_NE(found, ran.end()) << name;
    return *found;
  }

  std::vector<Ran> ran;
  Picoseconds step = 0;
};

bool is_experts(const OpInfo& info) {
  return info.work.kind == OpKind::grouped_matmul;
}

// Three layers whose experts take 6 + 6 us forward; copies in of `copy` us.
HandTimed forward_alone(World& world, Picoseconds copy) {
  return HandTimed(world, "ep=8,zero=0,offload=experts", [&](const OpInfo& info) -> Picoseconds {
    if (info.work.phase != Phase::forward) return 0;
    return is_experts(info) ? 6 : info.work.kind == OpKind::copy_to_device ? copy : 0;
  });
}

// Copies longer than what they lie beside: all of them, and the last layer's experts. The third
// waits for the first layer's buffer, which is free at 32, and for its engine, at 40.
TEST(Offload, CopiesThatTakeLonger) {
  World world(experts_everywhere(3), 1, 1024, 8, "steploom");
  const HandTimed t = forward_alone(world, 20);
  EXPECT_EQ(t.at("experts up", Phase::forward, 0).start, 20);
  EXPECT_EQ(t.at("experts in", Phase::forward, 1).start, 20);
  EXPECT_EQ(t.at("experts in", Phase::forward, 2).start, 40);
  EXPECT_EQ(t.step, 3 * 20 + 12);
}

// Shorter ones: the first alone is exposed. The third begins at 16, when the first layer is done.
TEST(Offload, CopiesThatTakeLess) {
  World world(experts_everywhere(3), 1, 1024, 8, "steploom");
  const HandTimed t = forward_alone(world, 4);
  EXPECT_EQ(t.at("experts in", Phase::forward, 1).start, 4);
  EXPECT_EQ(t.at("experts in", Phase::forward, 2).start, 16);
  EXPECT_EQ(t.step, 4 + 3 * 12);
}

// Backward the last layer comes first. Its gradients leave when its weight gradients are there,
// beside the next layer's.
TEST(Offload, GradientsLeaveBesideTheNextLayer) {
  World world(experts_everywhere(2), 1, 1024, 8, "steploom");
  const HandTimed t(world, "ep=8,zero=0,offload=experts", [](const OpInfo& info) -> Picoseconds {
    if (info.work.phase == Phase::forward || info.work.phase == Phase::optimizer) return 0;
    if (info.work.kind == OpKind::copy_to_device) return 5;
    if (info.work.kind == OpKind::copy_to_host) return 10;
    return is_experts(info) ? 3 : 0;
  });
  // Down, its weights, up, its weights: 5 to 17, the other layer 17 to 29.
  EXPECT_EQ(t.at("experts in", Phase::data_grad, 1).start, 0);
  EXPECT_EQ(t.at("experts in", Phase::data_grad, 0).start, 5);
  EXPECT_EQ(t.at("expert gradients out", Phase::weight_grad, 1).start, 17);
  EXPECT_EQ(t.at("expert gradients out", Phase::weight_grad, 0).start, 29);
  EXPECT_EQ(t.step, 39);
}

// In 5, update 3, out 4, two layers at once: 0 5 8 12; 5 10 13 17; 12 17 20 24.
TEST(Offload, TheUpdateIsStreamed) {
  World world(experts_everywhere(3), 1, 1024, 8, "steploom");
  const HandTimed t(world, "ep=8,zero=0,offload=experts", [](const OpInfo& info) -> Picoseconds {
    if (info.work.phase != Phase::optimizer) return 0;
    if (info.work.kind == OpKind::copy_to_device) return 5;
    if (info.work.kind == OpKind::copy_to_host) return 4;
    return info.work.kind == OpKind::adam && info.layer >= 0 ? 3 : 0;
  });
  EXPECT_EQ(t.at("experts' state out", Phase::optimizer, 0).end, 12);
  EXPECT_EQ(t.at("experts' state in", Phase::optimizer, 2).start, 12);
  EXPECT_EQ(t.step, 24);
}

// Experts of a rank: an eighth of three layers' eight, gated or not, of 1024 × 2048. bf16 with Adam
// has 2 + 4 + 12 bytes of each parameter.
TEST(Offload, MemoryByHand) {
  World world(experts_everywhere(3), 1, 1024, 8, "steploom");
  const MoeSpec& moe = *world.model.moe;
  const Bytes layer = world.model.hidden * moe.expert.width * (moe.expert.gated ? 3 : 2);
  const auto parts = [&](const std::string& layout) {
    return lower(world.setting, world.layout(layout), world.cache).memory.front();
  };
  const MemoryParts here = parts("ep=8,zero=0"), away = parts("ep=8,zero=0,offload=experts");
  EXPECT_EQ(here.parameters - away.parameters, 3 * layer * 2);
  EXPECT_EQ(here.gradients - away.gradients, 3 * layer * 4);
  EXPECT_EQ(here.optimizer - away.optimizer, 3 * layer * 12);
  EXPECT_EQ(away.host, 3 * layer * 18);
  EXPECT_EQ(here.host, 0);
  EXPECT_EQ(away.experts, 0);
  EXPECT_EQ(away.buffers, here.buffers);
  world.work.global_batch = 16;  // two micro-batches: gradients are added up on the device
  const MemoryParts summed = parts("ep=8,zero=0,offload=experts");
  EXPECT_EQ(summed.gradients, here.gradients);
  EXPECT_EQ(summed.host, 3 * layer * 14);
}

// On the device are the experts of two layers at most.
TEST(Offload, TwoLayersAtOnce) {
  World world(experts_everywhere(6), 1, 1024, 16, "steploom", "h200-sxm-141gb");
  for (const char* more : {"", ",recompute=full", ",mbs=2"}) {
    const Layout l = world.layout(std::string("ep=8,zero=0,offload=experts") + more);
    Lowered lowered = lower(world.setting, l, world.cache);
    Program& p = lowered.program;
    const Replay r = replay_at_clock(p, world.setting.replaying());
    std::vector<std::pair<Picoseconds, int>> changes;
    for (std::uint32_t s = 0; s < p.devices[0].slot_count; ++s) {
      const BlockTemplate& b = p.blocks[p.slots[s].block];
      std::map<TensorId, std::pair<Picoseconds, Picoseconds>> lives;
      for (const Access& a : b.accesses) {
        const std::uint32_t id = p.slots[s].first_op + a.op;
        const bool in = b.infos[a.op].name == "experts in";
        if (in && a.mode == AccessMode::write) lives[a.tensor] = {r.start[id], r.end[id]};
        if (lives.contains(a.tensor))
          lives[a.tensor].second = std::max(lives[a.tensor].second, r.end[id]);
      }
      for (const auto& [tensor, life] : lives) {
        changes.emplace_back(life.first, 1);
        changes.emplace_back(life.second, -1);
      }
    }
    ASSERT_GT(changes.size(), 20U);
    std::sort(changes.begin(), changes.end());  // what ends comes before what starts then
    int now = 0, most = 0;
    for (const auto& [at, by] : changes) most = std::max(most, now += by);
    EXPECT_EQ(most, 2) << to_text(l);
  }
}

// Less memory and more time than without, and nothing else: with copies made free the step is as
// long as without them, but for the host that issues them.
TEST(Offload, MemoryFallsAndTimeRises) {
  World world(experts_everywhere(6), 1, 1024, 16, "raf", "a100-sxm-40gb");
  const auto run = [&](const std::string& text) {
    Lowered lowered = lower(world.setting, world.layout(text), world.cache);
    const Replay r = replay(lowered.program);
    return std::pair(r.makespan, *std::max_element(r.peak_memory.begin(), r.peak_memory.end()));
  };
  for (const char* mesh : {"ep=8,zero=0", "ep=4,zero=0", "ep=8,zero=0,chunks=2"}) {
    const auto here = run(mesh), away = run(std::string(mesh) + ",offload=experts");
    EXPECT_LT(away.second, here.second) << mesh;
    EXPECT_GT(away.first, here.first) << mesh;
  }
}

// Replicas reduce first, by the layout's queue, in parts or whole; then gradients leave.
TEST(Offload, ReducedGradientsLeave) {
  World world(experts_everywhere(4), 1, 1024, 8, "raf", "a100-sxm-40gb");
  for (const char* more : {"", ",a2a_first=1", ",a2a_first=1,grad_micro=4000000"}) {
    const Layout l = world.layout(std::string("ep=4,zero=0,offload=experts") + more);
    Lowered lowered = lower(world.setting, l, world.cache);
    const Program& p = lowered.program;
    ASSERT_TRUE(check(p).empty()) << to_text(l);
    const Replay r = replay(p);
    int left = 0, reduced = 0;
    for (std::uint32_t s = 0; s < p.devices[0].slot_count; ++s) {
      const BlockTemplate& b = p.blocks[p.slots[s].block];
      std::map<TensorId, Picoseconds> done;
      for (const Access& a : b.accesses) {
        const std::uint32_t id = p.slots[s].first_op + a.op;
        const OpInfo& info = b.infos[a.op];
        if (info.group == CommGroup::expert_dp) done[a.tensor] = r.end[id], ++reduced;
        if (info.name != "expert gradients out" || a.mode != AccessMode::read) continue;
        ASSERT_TRUE(done.contains(a.tensor)) << to_text(l);
        EXPECT_GE(r.start[id], done[a.tensor]) << to_text(l);
        ++left;
      }
    }
    EXPECT_EQ(left, 4) << to_text(l);
    EXPECT_GT(reduced, 0) << to_text(l);
  }
}

// Closed form <= longest path <= replay, and memory likewise, where copies are hidden and where
// they are all that there is (a link of a tenth).
TEST(Offload, BoundsStayBelow) {
  for (const double link : {1.0, 0.1}) {
    World built(small_everything(), 1, 1024, 32, "steploom", "h200-sxm-141gb");
    built.cluster.host.bandwidth *= link;
    const CostModel costs(built.profile, built.cluster);
    const Setting setting{built.model,   built.work, built.setting.runtime,
                          built.cluster, costs,      &built.contention};
    CostCache cache(costs);
    BoundModel bounds(setting, cache);
    for (const char* text :
         {"ep=8", "ep=8,zero=0", "ep=4,zero=0", "ep=2,zero=0,pp=2", "ep=8,mbs=4,zero=0",
          "ep=8,zero=0,recompute=full", "ep=8,zero=0,chunks=4", "ep=8,zero=0,pairwise=4",
          "ep=4,zero=0,pp=2,vpp=2", "ep=4,zero=0,a2a_first=1"}) {
      const Layout l = built.layout(std::string(text) + ",offload=experts");
      const auto refusal = refuse({built.model, built.work, l, 8, &setting.runtime});
      ASSERT_FALSE(refusal) << refusal->message;
      const Bound bound = bounds.bound(l);
      Lowered lowered = lower(setting, l, cache);
      ASSERT_TRUE(check(lowered.program).empty()) << to_text(l);
      const Replay full = replay_at_clock(lowered.program, setting.replaying());
      EXPECT_LE(bound.step, full.makespan) << to_text(l);
      EXPECT_LE(relax(lowered.program).makespan, full.makespan) << to_text(l);
      EXPECT_LE(bound.memory, *std::max_element(full.peak_memory.begin(), full.peak_memory.end()))
          << to_text(l);
    }
  }
}

TEST(Offload, IsRefusedByName) {
  World world(experts_everywhere(4), 1, 1024, 8, "raf");
  const auto refusal = [&](const std::string& text, const char* runtime = "raf") {
    const Layout l = world.layout(text + ",offload=experts");
    const auto r = refuse({world.model, world.work, l, 8, &runtime_named(runtime)});
    return r ? std::string(r->rule) + ": " + r->message : std::string();
  };
  EXPECT_EQ(refusal("ep=8"), "");
  EXPECT_THAT(refusal("ep=8", "deepspeed"), HasSubstr("offload needs a runtime that has it"));
  EXPECT_THAT(refusal("ep=8,dw=lancet"), HasSubstr("offload excludes"));
  EXPECT_THAT(refusal("ep=8,partition=2:gate:layer"), HasSubstr("offload excludes"));
  EXPECT_THAT(refusal("ep=4"), HasSubstr("offload needs whole experts"));
  EXPECT_EQ(refusal("ep=4,zero=0"), "");
  world.model = load_model("llama-3.1-8b");
  EXPECT_THAT(refusal("zero=0"), HasSubstr("offload needs experts"));
}

// A file of a user's that says nothing of the link: one clear error.
TEST(Offload, NeedsTheLinkToTheHost) {
  World world(experts_everywhere(2), 1, 1024, 8, "raf");
  world.cluster.host = {};
  const CostModel costs(world.profile, world.cluster);
  const Setting setting{world.model,   world.work, world.setting.runtime,
                        world.cluster, costs,      &world.contention};
  CostCache cache(costs);
  try {
    lower(setting, world.layout("ep=8,zero=0,offload=experts"), cache);
    FAIL() << "expected an error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("/host"));
  }
}

TEST(Offload, IsNotSearched) {
  World world(small_moe(), 1, 1024, 8, "steploom");
  for (const Layout& l : enumerate_layouts(world.setting).valid)
    ASSERT_EQ(l.offload, Offload::none);
}

}  // namespace
}  // namespace steploom
