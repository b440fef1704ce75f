// Weight gradients beside all-to-alls: by hand, against every placement, and what no placement may
// change.
#include "planner/pass_weight_gradients.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <random>

#include "models/chunk_builder.h"
#include "planner/lower.h"
#include "planner/passes.h"
#include "sim/engine.h"
#include "tests/planner/planning.h"
#include "tests/planner/small_backward.h"

namespace steploom {
namespace {

constexpr Bytes kAnyMemory = std::numeric_limits<Bytes>::max();

PlacedWeights placed(const SmallBackward& g, WeightPlacement how, Bytes room = kAnyMemory) {
  PlacedWeights p = place_weights(g.graph, g.times, g.tensors, how, room);
  EXPECT_TRUE(legal(g.times, p.order));
  EXPECT_LE(p.bound, p.time);
  return p;
}

// Two layers. Kernel 4, its weight gradients 3 and 5, an all-to-all of 8, then the same again: as
// issued 4 + 3 + 5 + 8 + 4 + 3 + 5 + 8 + 1 = 41.
SmallBackward two_layers() {
  SmallBackward g;
  OpId last = g.kernel(4, {});
  for (int layer = 0; layer < 2; ++layer) {
    g.weight(3, {last});
    g.weight(5, {last});
    const OpId home = g.exchange(8, {last});
    last = g.kernel(layer == 0 ? 4 : 1, {home});
  }
  return g;
}

// The all-to-all is issued behind the weight gradients but does not wait for them: they already lie
// beside it, 4 + 8 + 4 + 8 + 1.
TEST(WeightGradients, BesideAnAllToAllThatDoesNotWait) {
  const SmallBackward g = two_layers();
  EXPECT_EQ(times_of(g.times, g.as_issued()).computed(), 25);
  EXPECT_EQ(placed(g, WeightPlacement::solved).time, 25);
}

// As torch issues it, a collective waits for all kernels issued before it: 41. Right behind the
// launch 3 + 5 fill each 8: 25, which is all that the path through the all-to-alls takes.
TEST(WeightGradients, BehindTheLaunchWhereCollectivesWaitForAll) {
  SmallBackward g = two_layers();
  g.times.waits_for_issued = true;
  EXPECT_EQ(times_of(g.times, g.as_issued()).computed(), 41);
  for (const WeightPlacement how : {WeightPlacement::lancet, WeightPlacement::solved}) {
    const PlacedWeights p = placed(g, how);
    EXPECT_EQ(p.before, 41);
    EXPECT_EQ(p.time, 25);
    EXPECT_EQ(p.bound, 25);
    EXPECT_EQ(p.order, (std::vector<OpId>{0, 3, 1, 2, 4, 7, 5, 6, 8}));
  }
}

// 9, 4 and 2 wait for all-to-alls of 10 and 6. Best fit puts 9 and 2 beside the first and 4 beside
// the second: 1 + 11 + 1 + 6 + 1 = 20. Solved: 9 beside the first, 4 and 2 beside the second, which
// loses nothing: 1 + 10 + 1 + 6 + 1.
TEST(WeightGradients, WhereBestFitTakesTooMuch) {
  SmallBackward g;
  const OpId first = g.kernel(1, {});
  for (const Picoseconds time : {9, 4, 2}) g.weight(time, {first});
  const OpId middle = g.kernel(1, {g.exchange(10, {first})});
  g.kernel(1, {g.exchange(6, {middle})});
  EXPECT_EQ(placed(g, WeightPlacement::lancet).time, 20);
  EXPECT_EQ(placed(g, WeightPlacement::solved).time, 19);
}

// A weight gradient of 6 is reduced in 20; all-to-alls of 6 and 6, both beside it or a second one
// of 6 that is not reduced. The reduced one first: 1 + 6 + 20. Waiting for the second all-to-all,
// where it hides as well, would end the step 7 later.
TEST(WeightGradients, ReductionsAreNotHeldUp) {
  SmallBackward g;
  const OpId first = g.kernel(1, {});
  g.weight(6, {first});
  const OpId reduced = g.weight(6, {first});
  const OpId middle = g.kernel(1, {g.exchange(6, {first})});
  g.kernel(1, {g.exchange(6, {middle})});
  g.reduce(20, {reduced});
  const PlacedWeights p = placed(g, WeightPlacement::solved);
  EXPECT_LE(p.time, 1 + 6 + 6 + 1 + 20);  // never later than as issued
  EXPECT_EQ(p.before, 1 + 6 + 6 + 20);
  EXPECT_EQ(p.bound, 1 + 6 + 20);
  EXPECT_EQ(p.time, 1 + 6 + 20);
}

// All-to-alls of 1 and 8. A weight gradient of 8 that waits for the second saves time, but what it
// reads is held meanwhile, beside what the kernels between make.
TEST(WeightGradients, MemoryThatIsNotThereIsNotUsed) {
  SmallBackward g;
  const OpId first = g.kernel(1, {});
  g.weight(8, {first});
  const OpId second = g.kernel(1, {g.exchange(1, {first})});
  const OpId third = g.kernel(1, {second});
  g.kernel(1, {g.exchange(8, {third})});
  g.tensors[g.graph.node(first).writes.front()].bytes = 100;
  g.tensors[g.graph.node(third).writes.front()].bytes = 50;
  const PlacedWeights free = placed(g, WeightPlacement::solved);
  EXPECT_LT(free.time, free.before);
  EXPECT_GT(free.peak, 150);
  const PlacedWeights tight = placed(g, WeightPlacement::solved, 120);
  EXPECT_EQ(tight.time, tight.before);
  EXPECT_LE(tight.peak, 120);
}

// A graph of some layers with random times and shapes: kernels, all-to-alls, weight gradients whose
// operands any earlier kernel makes, reductions of some.
SmallBackward random_backward(std::mt19937& random, int layers, std::size_t most_weights) {
  SmallBackward g;
  std::vector<OpId> made{g.kernel(1 + random() % 6, {})}, weights;
  const auto one_made = [&] { return made[random() % made.size()]; };
  for (int layer = 0; layer < layers; ++layer) {
    for (std::size_t n = random() % 3; n > 0 && weights.size() < most_weights; --n)
      weights.push_back(g.weight(1 + random() % 9, {one_made()}));
    const OpId home = g.exchange(1 + random() % 12, {made.back()});
    if (random() % 3 == 0) made.push_back(g.kernel(1 + random() % 5, {one_made()}));
    made.push_back(g.kernel(1 + random() % 6, {home, made.back()}));
    if (random() % 3 == 0 && !weights.empty()) g.reduce(1 + random() % 15, {weights.back()});
  }
  g.times.waits_for_issued = random() % 2 == 0;
  return g;
}

// The least over every order of the weight gradients between the other operators.
Picoseconds best_of_all(const SmallBackward& g) {
  std::vector<OpId> weights;
  bool reduces = false;
  for (OpId id = 0; id < g.times.ops.size(); ++id) {
    if (g.times.ops[id].movable) weights.push_back(id);
    reduces = reduces || g.times.ops[id].reduces;
  }
  std::vector<IssueKey> keys = keys_of(g.times);
  Picoseconds best = std::numeric_limits<Picoseconds>::max();
  const auto from = [&](const auto& self, std::size_t i) -> void {
    if (i == weights.size()) {
      const OrderTimes t = times_of(g.times, order_of(g.times, keys));
      best = std::min(best, reduces ? t.all() : t.computed());
      return;
    }
    for (OpId after = g.times.ops[weights[i]].after.front(); after < g.times.ops.size(); ++after) {
      keys[weights[i]] = issue_after(after);
      self(self, i + 1);
    }
  };
  from(from, 0);
  return best;
}

TEST(WeightGradients, EveryPlacementIsWithinTheBound) {
  std::mt19937 random(11);
  int equal = 0, better_than_greedy = 0;
  constexpr int kCases = kOneIn == 1 ? 40 : 12;
  for (int n = 0; n < kCases; ++n) {
    const SmallBackward g = random_backward(random, 4, 4);
    const Picoseconds best = best_of_all(g);
    const PlacedWeights lancet = placed(g, WeightPlacement::lancet);
    const PlacedWeights solved = placed(g, WeightPlacement::solved);
    EXPECT_LE(solved.bound, best) << n;
    EXPECT_LE(best, solved.time) << n;
    EXPECT_LE(solved.time, lancet.time) << n;
    EXPECT_LE(solved.time, solved.before) << n;
    equal += best == solved.time ? 1 : 0;
    better_than_greedy += solved.time < lancet.time ? 1 : 0;
  }
  EXPECT_GE(equal, kCases * 85 / 100);
  EXPECT_GT(better_than_greedy, kCases / 10);
}

// What a block does in all: operators by name, FLOPs, bytes, tensors read and written.
std::map<std::string, std::vector<double>> multiset(const OpGraph& graph) {
  std::map<std::string, std::vector<double>> out;
  for (OpId id = 0; id < graph.size(); ++id) {
    const OpNode& node = graph.node(id);
    std::string what = std::to_string(node.layer) + " " + node.name;
    for (const auto* list : {&node.reads, &node.writes})
      for (const TensorId t : *list) what += " " + std::to_string(t);
    out[what].push_back(node.work.flops);
  }
  return out;
}

const char* const kLayouts[] = {"ep=8,zero=0",
                                "ep=4,zero=1,mbs=2",
                                "ep=8,chunks=2,zero=0",
                                "ep=2,tp=2,sp=1,etp=2,zero=1",
                                "ep=2,pp=2,zero=1",
                                "ep=4,recompute=full,zero=0",
                                "tp=2,sp=1,ep=4,etp=1,zero=1"};

// Over real layers: the same operators on the same tensors, and each rung below the next.
TEST(WeightGradients, NothingIsLostAndNothingIsAdded) {
  for (const char* runtime : {"steploom", "megatron-core"})
    for (const char* text : kLayouts) {
      World world(small_everything(), 1, 1024, 16, runtime);
      Layout l = world.layout(text);
      const Lowered plain = lower(world.setting, l, world.cache);
      for (const WeightPlacement how : {WeightPlacement::lancet, WeightPlacement::solved}) {
        l.dw = how;
        const Lowered moved = lower(world.setting, l, world.cache);
        EXPECT_EQ(moved.program.op_count, plain.program.op_count);
        EXPECT_EQ(moved.program.blocks.size(), plain.program.blocks.size());
        double flops = 0, before = 0;
        for (const BlockTemplate& b : moved.program.blocks)
          for (const OpInfo& info : b.infos) flops += info.work.flops;
        for (const BlockTemplate& b : plain.program.blocks)
          for (const OpInfo& info : b.infos) before += info.work.flops;
        EXPECT_EQ(flops, before) << text;
      }
      const std::vector<StageSpan> spans = rank_spans(world.model, l, 0);
      l.dw = WeightPlacement::none;
      Chunk chunk = build_chunks(world.model, world.work, l, world.setting.runtime, spans).front();
      const auto before = multiset(chunk.backward), last = multiset(chunk.last_backward);
      l.dw = WeightPlacement::solved;
      apply_backward_passes(chunk, {world.setting, l, {}, world.cache, kAnyMemory});
      EXPECT_EQ(multiset(chunk.backward), before) << text;
      EXPECT_EQ(multiset(chunk.last_backward), last) << text;
    }
}

// A backward pass alone on one device, in any order: its Program by hand.
Picoseconds replayed(const Setting& setting, const Layout& l, const OpGraph& graph,
                     const GroupShapes& shapes, CostCache& costs) {
  Program p;
  Block block = lower_block("B", graph, setting.runtime, l, shapes, costs);
  bool reduces = false;
  for (std::size_t i = 0; i < block.body.ops.size(); ++i) {
    OpTemplate& op = block.body.ops[i];
    op.launch = 0;
    op.role = kNoRole;  // a group of one, as every member does the same
    reduces = reduces || block.body.infos[i].group == CommGroup::dp;
  }
  block.body.accesses.clear();
  for (OpTemplate& op : block.body.ops) op.alloc = op.free = 0;
  p.blocks.push_back(std::move(block.body));
  p.slots.push_back({0, 0, SlotKind::backward});
  Device d;
  d.streams = kStreamKinds;
  d.slot_count = 1;
  d.communicator_of_role.assign(kCommGroups, kNoCommunicator);
  p.devices.push_back(d);
  p.kernel_classes.assign(kKernelClasses, "any");
  p.tensor_tables.emplace_back();
  finalize(p);
  const Replay r = replay(p, setting.replaying());
  Picoseconds end = 0;
  for (std::size_t i = 0; i < p.blocks[0].ops.size(); ++i)
    if (reduces || p.blocks[0].ops[i].stream == 0) end = std::max(end, r.end[i]);
  return end;
}

// The engine takes as long for an order as its times say, and of many legal orders none is shorter
// than the bound, nor than what was solved by more than its gap.
TEST(WeightGradients, TimesAreThoseOfTheReplay) {
  std::mt19937 random(3);
  int improved = 0;
  const Contention nothing_slows = neutral_contention(kKernelClasses);
  for (const bool contended : {false, true})
    for (const char* text : {"ep=8,zero=0", "ep=4,chunks=2,zero=1"}) {
      World world(small_moe(3), 1, 4096, 8, contended ? "steploom" : "megatron-core");
      const Setting setting{world.model,   world.work,  world.setting.runtime,
                            world.cluster, world.costs, contended ? &nothing_slows : nullptr};
      const Layout l = world.layout(text);
      const std::vector<StageSpan> spans = rank_spans(world.model, l, 0);
      const Chunk chunk =
          build_chunks(world.model, world.work, l, world.setting.runtime, spans).front();
      GroupShapes shapes;
      shapes.fill({8, 8, 1});
      for (const OpGraph* graph : {&chunk.backward, &chunk.last_backward}) {
        const TimedGraph times = timed(*graph, chunk.tensors, setting, l, shapes, world.cache);
        const PlacedWeights solved =
            place_weights(*graph, times, chunk.tensors, WeightPlacement::solved, kAnyMemory);
        EXPECT_EQ(replayed(setting, l, reordered(*graph, times, solved.order), shapes, world.cache),
                  solved.time)
            << text;
        EXPECT_EQ(replayed(setting, l, *graph, shapes, world.cache), solved.before);
        improved += solved.time < solved.before ? 1 : 0;
        for (int n = 0; n < 20; ++n) {
          std::vector<IssueKey> keys = keys_of(times);
          for (OpId id = 0; id < times.ops.size(); ++id) {
            const TimedOp& op = times.ops[id];
            if (!op.movable || random() % 3 == 0) continue;
            const OpId first = op.after.empty() ? 0 : op.after.back();
            keys[id] = issue_after(first + static_cast<OpId>(random() % (op.least_writer - first)));
          }
          const std::vector<OpId> order = order_of(times, keys);
          ASSERT_TRUE(legal(times, order));
          const Picoseconds step =
              replayed(setting, l, reordered(*graph, times, order), shapes, world.cache);
          EXPECT_GE(step, solved.bound);
          EXPECT_GE(step, solved.time);
        }
      }
    }
  EXPECT_GT(improved, 3);
}

// Where a framework's collectives wait for all that was issued, weight gradients placed save time
// on the replay too, with the host and one hardware connection.
TEST(WeightGradients, SaveTimeOnTheReplay) {
  World world(small_moe(8), 1, 4096, 8, "megatron-core");
  const auto step = [&](const char* text) {
    const Lowered lowered = lower(world.setting, world.layout(text), world.cache);
    return replay(lowered.program, world.setting.replaying()).makespan;
  };
  const Picoseconds none = step("ep=8"), lancet = step("ep=8,dw=lancet");
  const Picoseconds solved = step("ep=8,dw=solved");
  EXPECT_LT(lancet, none);
  EXPECT_LT(solved, none);
}

}  // namespace
}  // namespace steploom
