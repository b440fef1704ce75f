// Products beside the communication of tensor parallelism: what overlaps, by hand, what is
// conserved, and that cutting alone never helps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>

#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/explain.h"
#include "planner/lower.h"
#include "planner/memory_parts.h"
#include "planner/search.h"
#include "planner/space.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

constexpr Picoseconds kUs = 1'000'000;

ModelSpec dense(int layers) {
  ModelSpec m = small_moe(layers);
  m.name = "small-dense";
  m.moe.reset();
  m.layer_is_moe.assign(static_cast<std::size_t>(layers), false);
  return m;
}

std::string overlapped(const std::string& layout) {
  return layout + ",tp_overlap=1";
}

// How long each of the operators of a name and phase takes, in us.
using Durations = std::map<std::pair<std::string, Phase>, Picoseconds>;

// A step of one micro-batch and one layer in which nothing else takes time, in us.
Picoseconds step_of(int tp, bool overlap, const Durations& durations) {
  World world(dense(1), 1, 1024, 8);
  const std::string text = "zero=0,sp=1,tp=" + std::to_string(tp) + ",mbs=" + std::to_string(tp);
  Lowered lowered =
      lower(world.setting, world.layout(overlap ? overlapped(text) : text), world.cache);
  std::size_t found = 0;
  for (BlockTemplate& b : lowered.program.blocks)
    for (std::size_t i = 0; i < b.ops.size(); ++i) {
      const auto at = durations.find({b.infos[i].name, b.infos[i].work.phase});
      b.ops[i].launch = b.ops[i].duration = 0;
      b.ops[i].stream_gap = b.ops[i].event_latency = 0;
      if (at == durations.end()) continue;
      b.ops[i].duration = at->second * kUs;
      ++found;
    }
  EXPECT_GE(found, durations.size());
  return replay(lowered.program).makespan / kUs;
}

// tp parts of p us each, of which tp − 1 arrive by steps of r us, one beside each product but the
// last: (tp − 1)·max(p, r) + p. Exposed: (tp − 1)·max(r − p, 0).
TEST(TpOverlap, ARingHidesAllButWhatAProductIsShorter) {
  const std::array rings{
      std::pair{std::pair{"qkv", Phase::forward}, "qkv input gather"},
      std::pair{std::pair{"ffn up", Phase::forward}, "ffn input gather"},
      std::pair{std::pair{"attention out", Phase::data_grad}, "attention out gradient gather"},
      std::pair{std::pair{"ffn down", Phase::data_grad}, "ffn gradient gather"}};
  for (const auto& [product, ring] : rings)
    for (const int tp : {2, 4, 8})
      for (const auto& [p, r] : {std::pair{6, 4}, {4, 6}, {5, 5}})
        EXPECT_EQ(step_of(tp, true, {{product, p}, {{ring, product.second}, r}}),
                  (tp - 1) * std::max(p, r) + p)
            << ring << " " << tp;
}

// 4 parts of p us, the reduce-scatter of each, s us, beside the next: p + 3·max(p, s) + s. Whole:
// 4·(p + s).
TEST(TpOverlap, AReductionHidesAllButItsLastPart) {
  for (const char* name : {"attention out", "ffn down"}) {
    const std::string reduce =
        name == std::string("ffn down") ? "ffn reduce" : "attention out reduce";
    for (const auto& [p, s] : {std::pair{6, 4}, {4, 6}}) {
      const Durations parts{{{name, Phase::forward}, p}, {{reduce, Phase::forward}, s}};
      EXPECT_EQ(step_of(4, true, parts), p + 3 * std::max(p, s) + s) << name;
      const Durations whole{{{name, Phase::forward}, 4 * p}, {{reduce, Phase::forward}, 4 * s}};
      EXPECT_EQ(step_of(4, false, whole), 4 * (p + s)) << name;
    }
  }
}

// The input is gathered (g) beside the data gradient (d), which is reduced (s) beside the weight
// gradient (w): max(g, d) + max(s, w), with and without the overlap.
TEST(TpOverlap, BulkOverlapIsTheOrderOfTheBackwardPass) {
  for (const auto& [product, gather, reduce] :
       {std::tuple{"qkv", "qkv input gather", "qkv input gradient reduce"},
        std::tuple{"ffn up", "ffn input gather", "ffn input gradient reduce"}})
    for (const bool overlap : {false, true})
      for (const auto& [g, d, s, w] : {std::array{3, 5, 4, 6}, {7, 5, 4, 2}})
        EXPECT_EQ(step_of(4, overlap,
                          {{{gather, Phase::weight_grad}, g},
                           {{product, Phase::data_grad}, d},
                           {{reduce, Phase::data_grad}, s},
                           {{product, Phase::weight_grad}, w}}),
                  std::max(g, d) + std::max(s, w))
            << product << overlap;
}

struct Moved {
  std::map<std::pair<OpKind, Phase>, double> flops;
  std::map<std::pair<std::string, Phase>, Bytes> received;  // over tp, by a rank, by what
};

Moved moved_by(const World& world, const Layout& l) {
  Moved m;
  const Chunk chunk = build_chunk(world.model, world.work, l, world.setting.runtime,
                                  {0, world.model.layers, false, false, true, true});
  for (const OpGraph* g : {&chunk.forward, &chunk.backward})
    for (OpId op = 0; op < g->size(); ++op) {
      const OpNode& n = g->node(op);
      if (!is_communication(n.work.kind)) m.flops[{n.work.kind, n.work.phase}] += n.work.flops;
      if (n.group != CommGroup::tp) continue;
      // A rank has 1/tp of what is gathered or reduced itself.
      const Bytes own = n.work.kind == OpKind::send_recv ? 0 : n.work.bytes / l.tp;
      m.received[{n.name, n.work.phase}] += n.work.bytes - own;
    }
  return m;
}

TEST(TpOverlap, FlopsAndBytesAreConserved) {
  World world(small_everything(), 1, 1024, 8);
  for (const char* text : {"tp=2,sp=1,zero=0", "tp=4,sp=1,mbs=2,cp=2,cp_comm=allgather",
                           "tp=8,sp=1,mbs=4,ep=8,etp=1,recompute=full"}) {
    const Moved whole = moved_by(world, world.layout(text));
    const Moved cut = moved_by(world, world.layout(overlapped(text)));
    EXPECT_THAT(cut.received, testing::ContainerEq(whole.received)) << text;
    for (const auto& [kind, flops] : whole.flops)
      EXPECT_DOUBLE_EQ(cut.flops.at(kind), flops) << text << " " << name_of(kind.first);
  }
}

// Parts are of their whole, and only what Transformer Engine has buffers for is cut.
TEST(TpOverlap, CutsWhatHasBuffers) {
  World world(small_everything(), 1, 1024, 8);
  const Layout l = world.layout("tp=4,sp=1,tp_overlap=1");
  const Chunk chunk = build_chunk(world.model, world.work, l, world.setting.runtime,
                                  {0, world.model.layers, false, true, true, false});
  std::map<std::string, int> parts, of_module;
  for (const OpGraph* g : {&chunk.forward, &chunk.backward})
    for (OpId op = 0; op < g->size(); ++op) {
      const OpNode& n = g->node(op);
      if (is_communication(n.work.kind) || n.work.phase == Phase::weight_grad) continue;
      auto& of = n.layer > world.model.layers ? of_module : parts;
      int& most = of[n.name + " " + std::string(name_of(n.work.phase))];
      most = std::max(most, n.parts);
    }
  for (const char* ring : {"qkv forward", "ffn up forward", "shared expert up forward",
                           "attention out data_grad", "ffn down data_grad"})
    EXPECT_EQ(parts.at(ring), 4) << ring;
  for (const char* pipeline :
       {"attention out forward", "ffn down forward", "shared expert down forward"})
    EXPECT_EQ(parts.at(pipeline), kOverlapSplits) << pipeline;
  for (const char* whole : {"qkv data_grad", "ffn up data_grad", "head forward",
                            "experts up forward", "attention forward", "router forward"})
    EXPECT_EQ(parts.at(whole), 1) << whole;
  ASSERT_FALSE(of_module.empty());
  for (const auto& [name, most] : of_module) EXPECT_EQ(most, 1) << name;
}

// Folded as unfolded, checked, and with every way to run layers again.
TEST(TpOverlap, ProgramsPassTheCheckAndFold) {
  World world(small_everything(), 2, 1024, 16, "megatron-core", "h200-sxm-141gb");
  for (const char* text :
       {"tp=2,sp=1,ep=4,etp=1,zero=1", "tp=4,pp=2,vpp=2,sp=1,ep=2,etp=2,recompute=full",
        "tp=8,sp=1,mbs=2,ep=8,etp=1,recompute=selective:layernorm+mlp+moe",
        "tp=2,pp=2,cp=2,cp_comm=a2a,sp=1,ep=2,etp=1,recompute=full:block:1"}) {
    const Layout l = world.layout(overlapped(text));
    const auto refusal = refuse({world.model, world.work, l, 16, &world.setting.runtime, 8});
    ASSERT_FALSE(refusal.has_value()) << text << " " << refusal->message;
    const Lowered folded = lower(world.setting, l, world.cache);
    const Lowered each = lower(world.setting, l, world.cache, Folding::unfolded);
    EXPECT_THAT(check(folded.program), testing::IsEmpty()) << text;
    EXPECT_THAT(check(each.program), testing::IsEmpty()) << text;
    for (const Contention* c :
         {static_cast<const Contention*>(nullptr), world.setting.contention}) {
      const Replay a = replay(folded.program, {c}), b = replay(each.program, {c});
      EXPECT_EQ(a.makespan, b.makespan) << text;
      EXPECT_EQ(*std::max_element(a.peak_memory.begin(), a.peak_memory.end()),
                *std::max_element(b.peak_memory.begin(), b.peak_memory.end()));
    }
  }
}

Picoseconds with_free_communication(const World& world, const Layout& l, CostCache& cache) {
  Lowered lowered = lower(world.setting, l, cache);
  for (BlockTemplate& b : lowered.program.blocks)
    for (OpTemplate& op : b.ops) {
      if (op.role != kNoRole) op.duration = 0;
      op.event_latency = 0;  // of waiting for it
    }
  return replay(lowered.program).makespan;
}

// Nothing is left to hide, so nothing is gained. In the space wherever there is sequence
// parallelism inside a node.
TEST(TpOverlap, NoPlanGainsFromCuttingWhenCommunicationIsFree) {
  World world(dense(2), 2, 1024, 8, "megatron-core", "h200-sxm-141gb");
  std::map<bool, int> count;
  int seen = 0, tried = 0;
  for (Layout l : enumerate_layouts(world.setting).valid) {
    ++count[l.tp_overlap];
    if (!l.tp_overlap) continue;
    EXPECT_TRUE(l.sp && 8 % l.tp == 0) << to_text(l);
    if (++seen % (10 * kOneIn) != 0) continue;
    const Picoseconds cut = with_free_communication(world, l, world.cache);
    const std::string text = to_text(l);
    l.tp_overlap = false;
    EXPECT_GE(cut, with_free_communication(world, l, world.cache)) << text;
    ++tried;
  }
  EXPECT_GT(count[true], 100);
  EXPECT_GT(count[false], count[true]);
  EXPECT_GT(tried, 10 / kOneIn);
  World other(dense(2), 1, 1024, 8, "steploom", "h200-sxm-141gb");  // cannot run it
  for (const Layout& l : enumerate_layouts(other.setting).valid) EXPECT_FALSE(l.tp_overlap);
  World unmeasured(dense(2), 1, 1024, 8);  // what runs beside what is unknown
  for (const Layout& l : enumerate_layouts(unmeasured.setting).valid) EXPECT_FALSE(l.tp_overlap);
}

// Where communication is long, beside large products, it pays; where they are small, the parts'
// launches and lower efficiency cost more.
TEST(TpOverlap, PaysBesideLargeProducts) {
  const auto some_layers = [](const char* name) {
    ModelSpec m = load_model(name);
    m.layers = 2;
    m.layer_is_moe.resize(2);
    return m;
  };
  World small(some_layers("llama-3.1-8b"), 1, 2048, 8);
  const auto step = [](World& w, const char* layout) {
    return evaluate(w.setting, w.layout(layout), w.cache).step;
  };
  EXPECT_GT(step(small, "tp=8,sp=1,zero=0,tp_overlap=1"), step(small, "tp=8,sp=1,zero=0"));
  World world(some_layers("llama-3.1-405b"), 1, 8192, 8);
  const Picoseconds whole = step(world, "tp=8,sp=1,zero=0");
  const Picoseconds cut = step(world, "tp=8,sp=1,zero=0,tp_overlap=1");
  EXPECT_LT(cut, whole);
  EXPECT_GT(cut, with_free_communication(world, world.layout("tp=8,sp=1,zero=0"), world.cache));
}

// Ten buffers of all rows, hidden wide, and two workspaces more; what lies in them is counted once.
TEST(TpOverlap, MemoryIsThatOfItsBuffers) {
  World world(dense(2), 1, 1024, 8);
  const std::string text = "tp=4,sp=1,zero=0,mbs=2";
  const auto memory_of = [&](const std::string& layout) {
    return lower(world.setting, world.layout(layout), world.cache).memory.front();
  };
  const Bytes buffer = 2 * 1024 * 1024 * 2;
  const auto difference = [&] {
    const MemoryParts a = memory_of(text), b = memory_of(overlapped(text));
    EXPECT_EQ(b.workspace - a.workspace, Bytes{64} << 20);
    return b.buffers - a.buffers;
  };
  EXPECT_EQ(difference(), 10 * buffer);
  const auto peak = [&](const std::string& layout) {
    const Lowered lowered = lower(world.setting, world.layout(layout), world.cache);
    return replay(lowered.program).peak_memory.front() - lowered.memory.front().fixed();
  };
  EXPECT_LE(peak(overlapped(text)), peak(text));
  world.cluster.device.peak_of[static_cast<std::size_t>(Precision::fp8)] = 1.979e15;
  world.work.precision = Precision::fp8;  // six of the buffers hold 8-bit numbers
  const CostModel costs(world.profile, world.cluster);
  const Setting s{world.model,   world.work, world.setting.runtime,
                  world.cluster, costs,      world.setting.contention};
  CostCache cache(costs);
  const auto in_fp8 = [&](const std::string& layout) {
    return lower(s, world.layout(layout), cache).memory.front().buffers;
  };
  EXPECT_EQ(in_fp8(overlapped(text)) - in_fp8(text), 7 * buffer);
}

TEST(TpOverlap, SaysWhereInterferenceWasNotMeasured) {
  World h100(small_moe(), 1, 1024, 8), h200(small_moe(), 1, 1024, 8, "steploom", "h200-sxm-141gb");
  EXPECT_THAT(*overlap_warning(h100.setting, h100.layout("tp=2,sp=1,tp_overlap=1")),
              testing::HasSubstr("tp_overlap=1 may save less"));
  EXPECT_THAT(*overlap_warning(h100.setting, h100.layout("ep=8,chunks=4")),
              testing::HasSubstr("chunks=4 may save less"));
  EXPECT_FALSE(overlap_warning(h100.setting, h100.layout("tp=2,sp=1")).has_value());
  EXPECT_FALSE(overlap_warning(h200.setting, h200.layout("ep=8,chunks=4")).has_value());
}

TEST(TpOverlap, RefusesWhatCannotRun) {
  const auto rule = [](const World& world, const char* layout) -> std::string {
    const Layout l = world.layout(layout);
    const auto refusal = refuse({world.model, world.work, l, world.cluster.devices(),
                                 &world.setting.runtime, world.cluster.devices_per_node});
    return refusal ? std::string(refusal->rule) : "none";
  };
  World world(dense(2), 2, 1024, 16);
  EXPECT_EQ(rule(world, "tp=2,sp=1,tp_overlap=1"), "none");
  EXPECT_EQ(rule(world, "tp=2,tp_overlap=1"), "tp_overlap needs sp");
  EXPECT_EQ(rule(world, "tp_overlap=1"), "tp_overlap needs sp");
  world.cluster.devices_per_node = 4;
  world.cluster.nodes = 4;
  EXPECT_EQ(rule(world, "tp=8,sp=1,tp_overlap=1"), "tp_overlap needs tp in a node");
  world.work.seq_length = 1022;
  EXPECT_EQ(rule(world, "tp=2,sp=1,tp_overlap=1"), "tp_overlap cuts the rows in 4");
  World own(dense(2), 1, 1024, 16, "steploom");
  EXPECT_EQ(rule(own, "tp=2,sp=1,tp_overlap=1"), "tp_overlap needs a runtime that has it");
  World latent("deepseek-v2-lite", 1, 1024, 16);
  EXPECT_EQ(rule(latent, "tp=2,sp=1,tp_overlap=1"), "tp_overlap excludes latent attention");
}

}  // namespace
}  // namespace steploom
