// Lancet's forward half: axes, times of ranges, the range program against brute force, and the
// graphs that the pass makes.
#include "planner/pass_partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <string>

#include "models/chunk_builder.h"
#include "models/layout_rules.h"
#include "models/shapes.h"
#include "planner/lower.h"
#include "sim/relax.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

using testing::HasSubstr;

Chunk chunk_of(const std::string& layout, const char* runtime, const ModelSpec& m = small_moe(),
               std::int64_t seq = 512) {
  const Layout l = parse_layout(layout, 8, true);
  Workload w;
  w.seq_length = seq;
  w.global_batch = 64;
  return build_chunk(m, w, l, runtime_named(runtime), stage_span(m, l, 0));
}

OpId at(const OpGraph& g, int layer, std::string_view name) {
  for (OpId op = 0; op < g.size(); ++op)
    if (g.node(op).layer == layer && g.node(op).name == name) return op;
  ADD_FAILURE() << name << " of layer " << layer;
  return 0;
}

PartAxes axes(const OpGraph& g, std::string_view from, std::string_view to, PartRules rules) {
  return infer_axes(g, at(g, 1, from), at(g, 1, to) + 1, rules);
}

PartAxis axis_written(const PartAxes& a, const OpGraph& g, std::string_view op) {
  return a.axis.at(g.node(at(g, 1, op)).writes.front());
}

// Tokens are a batch up to the gate, their rows irregular until they are summed again.
TEST(PartitionAxes, FollowTokensToTheExpertsAndBack) {
  for (const char* runtime : {"steploom", "raf"}) {
    const OpGraph g = chunk_of("ep=8,mbs=4", runtime).forward;
    const PartAxes a = axes(g, "ffn norm", "ffn residual", {4, true, 4, false});
    ASSERT_TRUE(a.found()) << a.refusal;
    EXPECT_EQ(axis_written(a, g, "ffn norm"), PartAxis::batch);
    EXPECT_EQ(axis_written(a, g, "router"), PartAxis::batch);
    EXPECT_EQ(axis_written(a, g, "permute"), PartAxis::irregular);
    EXPECT_EQ(axis_written(a, g, "dispatch"), PartAxis::irregular);
    EXPECT_EQ(axis_written(a, g, "experts up"), PartAxis::irregular);
    EXPECT_EQ(axis_written(a, g, "combine"), PartAxis::irregular);
    EXPECT_EQ(axis_written(a, g, "unpermute"), PartAxis::batch);
    EXPECT_EQ(axis_written(a, g, "ffn residual"), PartAxis::batch);
  }
}

TEST(PartitionAxes, ExchangesAndExpertsAloneAreCutByCapacity) {
  const OpGraph g = chunk_of("ep=8,mbs=4", "raf").forward;
  const PartAxes a = axes(g, "dispatch", "combine", {4, false, 1, false});
  ASSERT_TRUE(a.found()) << a.refusal;
  for (const auto& [tensor, axis] : a.axis) EXPECT_EQ(axis, PartAxis::capacity);
}

TEST(PartitionAxes, RefuseByTheOperatorThatCannot) {
  const OpGraph g = chunk_of("ep=8,mbs=4", "raf").forward;
  const auto why = [&](std::string_view from, std::string_view to, PartRules rules) {
    return axes(g, from, to, rules).refusal;
  };
  // A gate that sees all tokens: only after it.
  EXPECT_THAT(why("ffn norm", "ffn residual", {4, false, 4, false}),
              HasSubstr("'router scores and top-k' must see all tokens"));
  EXPECT_EQ(why("permute", "ffn residual", {4, false, 4, false}), "");
  // Attention is cut between sequences, and there are four.
  EXPECT_EQ(why("attention norm", "ffn residual", {4, true, 4, false}), "");
  EXPECT_THAT(why("attention norm", "ffn residual", {8, true, 4, false}),
              HasSubstr("cannot cut 4 sequences in 8"));
  // A token's rows cannot be summed when they are cut by capacity, and lie in no order outside.
  EXPECT_THAT(why("dispatch", "unpermute", {4, true, 4, false}), HasSubstr("'unpermute'"));
  EXPECT_FALSE(axes(g, "ffn norm", "experts down", {4, true, 4, false}).found());
  // 4·512 tokens.
  EXPECT_THAT(why("ffn norm", "ffn residual", {3, true, 3, false}),
              HasSubstr("cannot cut 2048 rows in 3"));
}

TEST(PartitionAxes, RefuseTokensOfOtherRanks) {
  const OpGraph g = chunk_of("tp=2,sp=1,ep=4,etp=1,mbs=4", "megatron-core").forward;
  const PartAxes a =
      infer_axes(g, at(g, 1, "attention norm"), at(g, 1, "ffn residual") + 1, {2, true, 4, true});
  EXPECT_THAT(a.refusal, HasSubstr("sequence-parallel"));
}

// ---- Times of ranges -----------------------------------------------------------------------

// A chain of operators on two queues; an exchange communicates.
struct Step {
  Picoseconds time;
  bool exchange;
};

OpGraph chain(const std::vector<Step>& steps) {
  OpGraph g;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    OpNode node;
    node.name = std::to_string(i);
    node.routed = true;
    node.work = steps[i].exchange
                    ? communication(OpKind::all_to_all, Phase::forward, 1 << 20)
                    : streaming(OpKind::activation, Phase::forward, Precision::bf16, 840, 1, 840);
    if (steps[i].exchange) node.group = CommGroup::ep, node.stream = StreamKind::ep;
    const auto t = static_cast<TensorId>(i);
    if (i > 0) node.reads = {t - 1};
    node.writes = {t};
    const OpId op = g.add(std::move(node));
    if (i > 0) g.depend(op - 1, op, t - 1);
  }
  return g;
}

PartTime time_of(const std::vector<Step>& steps, Picoseconds each = 0) {
  return [steps, each](const OpNode& node, int parts) {
    return steps[std::stoul(node.name)].time / parts + (parts > 1 ? each : 0);
  };
}

// Two parts of 8 | 8 | 8: computed 0-4, 4-8; exchanged 4-8, 8-12; computed 8-12, 12-16.
TEST(RangeTime, ByHand) {
  const std::vector<Step> steps{{8, false}, {8, true}, {8, false}};
  const OpGraph g = chain(steps);
  EXPECT_EQ(range_time(g, {0, 3, 1}, time_of(steps)), 24);
  EXPECT_EQ(range_time(g, {0, 3, 2}, time_of(steps)), 16);
  // Four parts: the last is exchanged at 8-10 and computed at 10-12... behind three others.
  EXPECT_EQ(range_time(g, {0, 3, 4}, time_of(steps)), 16);
  EXPECT_EQ(range_time(g, {1, 3, 4}, time_of(steps)), 10);
  // Every part has a cost of its own: 3 in place of 2 from 0-12 and 12-24.
  EXPECT_EQ(range_time(g, {0, 3, 4}, time_of(steps, 1)), 24);
}

TEST(RangeTime, ExchangeBoundRangesTakeTheirExchanges) {
  const std::vector<Step> steps{{4, true}, {2, false}, {4, true}};
  const OpGraph g = chain(steps);
  // 0-2, 2-4 dispatch; 2-3, 4-5 experts; 4-6, 6-8 combine.
  EXPECT_EQ(range_time(g, {0, 3, 2}, time_of(steps)), 8);
}

TEST(RangeTime, StagesAreRunsOfOneQueue) {
  const OpGraph g = chain({{1, false}, {1, false}, {1, true}, {1, false}, {1, true}, {1, true}});
  EXPECT_EQ(stages_of(g, 0, 6), (std::vector<int>{0, 0, 1, 2, 3, 3}));
  EXPECT_EQ(stages_of(g, 2, 5), (std::vector<int>{0, 1, 2}));
}

// Every way to cut, over all disjoint ranges; `least`: of each range, its best number of parts.
Picoseconds brute_force(const std::map<std::pair<OpId, OpId>, Picoseconds>& least, OpId from,
                        OpId size) {
  if (from == size) return 0;
  Picoseconds best = std::numeric_limits<Picoseconds>::max();
  for (auto at = least.lower_bound({from, 0}); at != least.end() && at->first.first == from; ++at)
    best = std::min(best, at->second + brute_force(least, at->first.second, size));
  return best;
}

Picoseconds brute_force(const OpGraph& g, int most, OpId longest, const PartTime& time) {
  std::map<std::pair<OpId, OpId>, Picoseconds> least;
  for (OpId from = 0; from < g.size(); ++from)
    for (OpId to = from + 1; to <= g.size() && to - from <= longest; ++to) {
      Picoseconds& best = least[{from, to}];
      best = range_time(g, {from, to, 1}, time);
      for (int k = 2; k <= most; ++k)
        if (infer_axes(g, from, to, {.parts = k}).found())
          best = std::min(best, range_time(g, {from, to, k}, time));
    }
  return brute_force(least, 0, static_cast<OpId>(g.size()));
}

TEST(RangeProgram, EqualsBruteForceOnSmallGraphs) {
  std::mt19937 random(7);
  const auto draw = [&](int most) { return 1 + static_cast<Picoseconds>(random() % most); };
  for (int trial = 0; trial < 40; ++trial) {
    std::vector<Step> steps;
    for (int layer = 0; layer < 2; ++layer) {
      steps.push_back({12 * draw(5), false});
      steps.push_back({12 * draw(5), true});
      steps.push_back({12 * draw(5), false});
      steps.push_back({12 * draw(5), true});
    }
    const OpGraph g = chain(steps);
    const PartTime time = time_of(steps, draw(3));
    // As many groups as operators: every border is one.
    const RangeChoice chosen = choose_ranges(g, {}, {.most_parts = 4, .groups = 1000}, time);
    EXPECT_EQ(chosen.time, brute_force(g, 4, 4, time)) << trial;
    Picoseconds sum = 0;
    OpId done = 0;
    for (const CutRange& r : chosen.ranges) {
      ASSERT_LE(done, r.first);
      if (done < r.first) sum += range_time(g, {done, r.first, 1}, time);
      sum += range_time(g, r, time);
      done = r.last;
    }
    if (done < g.size()) sum += range_time(g, {done, static_cast<OpId>(g.size()), 1}, time);
    EXPECT_LE(sum, chosen.time) << trial;
  }
}

// Nothing to hide: nothing is cut.
TEST(RangeProgram, CutsNothingWithoutExchanges) {
  const std::vector<Step> steps{{8, false}, {8, false}, {8, false}};
  EXPECT_TRUE(choose_ranges(chain(steps), {}, {}, time_of(steps)).ranges.empty());
}

// ---- The graphs that it makes --------------------------------------------------------------

double flops(const OpGraph& g) {
  double sum = 0;
  for (OpId op = 0; op < g.size(); ++op) sum += g.node(op).work.flops;
  return sum;
}

TEST(CutForward, DoesTheSameWorkOnSlicesThatFillTheirTensors) {
  const ModelSpec m = small_moe();
  std::vector<Chunk> chunks{chunk_of("ep=8,mbs=4,zero=1", "raf", m)};
  const Chunk before = chunks.front();
  Partition p;
  p.parts = 4;
  p.from = PartFrom::gate;
  p.to = PartTo::attention;
  const std::vector<CutRange> ranges = named_ranges(before.forward, p);
  ASSERT_EQ(ranges.size(), 3U);  // layers 1, 2 and 3
  cut_forward(chunks, {ranges}, {4, true, 4, false}, m.moe->experts);
  const Chunk& after = chunks.front();
  EXPECT_NEAR(flops(after.forward), flops(before.forward), 1e-6 * flops(before.forward));
  EXPECT_NEAR(flops(after.first_forward), flops(before.first_forward),
              1e-6 * flops(before.first_forward));
  EXPECT_EQ(flops(after.backward), flops(before.backward));
  EXPECT_EQ(after.backward.size(), before.backward.size());
  std::map<TensorId, Bytes> filled;
  Bytes all = 0, all_before = 0;
  for (const Tensor& t : before.tensors)
    if (t.whole == kNoTensor) all_before += t.bytes;
  for (const Tensor& t : after.tensors) {
    if (t.whole == kNoTensor) {
      all += t.bytes;
      continue;
    }
    EXPECT_EQ(t.offset, filled[t.whole]);
    filled[t.whole] += t.bytes;
  }
  EXPECT_EQ(all, all_before);
  for (const auto& [whole, bytes] : filled) EXPECT_EQ(bytes, after.tensors[whole].bytes);
  EXPECT_GT(filled.size(), 30U);
}

// Part i waits for part i alone, what is outside of the range for all.
TEST(CutForward, PartsWaitForTheirOwn) {
  std::vector<Chunk> chunks{chunk_of("ep=8,mbs=4", "raf")};
  Partition p;
  p.parts = 2;
  p.from = PartFrom::gate;
  p.to = PartTo::layer;
  cut_forward(chunks, {named_ranges(chunks.front().forward, p)}, {2, true, 4, false}, 8);
  const OpGraph& g = chunks.front().forward;
  std::vector<OpId> dispatches, sizes, sums;
  for (OpId op = 0; op < g.size(); ++op) {
    const OpNode& node = g.node(op);
    if (node.layer != 1) continue;
    if (node.name == "dispatch") dispatches.push_back(op);
    if (node.name == "dispatch sizes") sizes.push_back(op);
    if (node.name == "ffn residual") sums.push_back(op);
  }
  ASSERT_EQ(dispatches.size(), 2U);
  ASSERT_EQ(sizes.size(), 2U);
  ASSERT_EQ(sums.size(), 2U);
  EXPECT_TRUE(g.node(sizes[0]).host_waits);
  EXPECT_EQ(g.node(sizes[0]).work.bytes, 32);  // a number for each of 8 experts
  for (std::size_t part = 0; part < 2; ++part) {
    EXPECT_EQ(g.node(dispatches[part]).parts, 2);
    int permutes = 0;
    for (const OpGraph::Edge& e : g.predecessors(dispatches[part]))
      permutes += g.node(e.op).name == "permute";
    EXPECT_EQ(permutes, 1);
  }
  // Stage by stage: both dispatches are issued before the experts' first product.
  EXPECT_LT(dispatches[1], at(g, 1, "experts up"));
  int waited = 0;
  for (const OpGraph::Edge& e : g.predecessors(at(g, 2, "attention norm")))
    waited += e.op == sums[0] || e.op == sums[1];
  EXPECT_EQ(waited, 2);
}

struct PassCase {
  const char* layout;
  const char* cluster = "h100-sxm-80gb";
};

class PartitionPass : public testing::TestWithParam<PassCase> {};

// Lowered, checked and replayed: the longest path is no longer than the replay, the closed form no
// longer than either.
TEST_P(PartitionPass, ReplaysWithinItsBounds) {
  World world(small_moe(), 1, 1024, 64, "raf", GetParam().cluster);
  const Layout l = world.layout(GetParam().layout);
  ASSERT_FALSE(refuse({world.model, world.work, l, 8, &world.setting.runtime}));
  Lowered lowered = lower(world.setting, l, world.cache);
  const Replay full = replay(lowered.program, world.setting.replaying());
  EXPECT_LE(relax(lowered.program).makespan, full.makespan);
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, PartitionPass,
    testing::Values(PassCase{"ep=8,mbs=4,zero=0,partition=4:dispatch:combine"},
                    PassCase{"ep=8,mbs=4,zero=1,partition=2:gate:layer"},
                    PassCase{"ep=4,mbs=4,zero=1,partition=4:gate:attention"},
                    PassCase{"ep=4,pp=2,mbs=4,partition=2:attention:layer"},
                    PassCase{"ep=2,pp=2,vpp=2,mbs=4,partition=2:attention:attention"},
                    PassCase{"ep=8,mbs=2,partition=lancet:8,recompute=full"},
                    PassCase{"ep=8,mbs=8,zero=0,partition=lancet:4"}));

std::string rule_against(const World& world, const std::string& layout) {
  const Layout l = world.layout(layout);
  const auto r = refuse({world.model, world.work, l, 8, &world.setting.runtime});
  return r ? std::string(r->rule) : "";
}

TEST(PartitionRules, RefuseWhatCannotBe) {
  World raf(small_moe(), 1, 1024, 64, "raf");
  EXPECT_EQ(rule_against(raf, "ep=8,mbs=4,partition=4:gate:layer"), "");
  EXPECT_EQ(rule_against(raf, "partition=4:gate:layer"), "partition needs an exchange");
  EXPECT_EQ(rule_against(raf, "ep=8,mbs=4,chunks=2,partition=4:gate:layer"),
            "partition excludes chunks, tp and cp");
  EXPECT_EQ(rule_against(raf, "ep=8,mbs=2,partition=4:gate:attention"), "partition divides tokens");
  EXPECT_EQ(rule_against(raf, "ep=8,mbs=1,partition=3:gate:layer"), "partition divides tokens");
  raf.work.routing.gate = Gate::batch_prioritised;
  EXPECT_EQ(rule_against(raf, "ep=8,mbs=4,partition=4:gate:layer"),
            "partition needs a gate that decides on parts");
  EXPECT_EQ(rule_against(raf, "ep=8,mbs=4,partition=4:permute:layer"), "");
  World core(small_moe(), 1, 1024, 64, "megatron-core");
  EXPECT_EQ(rule_against(core, "ep=8,mbs=4,partition=4:gate:layer"),
            "partition needs a runtime that has it");
}

}  // namespace
}  // namespace steploom
