// Interleaved 1F1B: Megatron's order, its bubble, its memory, and Programs lowered from it.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/pipeline_schedule.h"
#include "planner/search.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

std::string text_of(const std::vector<SlotSpec>& slots) {
  std::string out;
  for (const SlotSpec& s : slots)
    out += (s.kind == SlotKind::forward ? "F" : "B") + std::to_string(s.micro_batch) +
           static_cast<char>('a' + s.chunk) + " ";
  return out;
}

// Two ranks, two chunks (a, b), four micro-batches: rank 0 warms up with 2·1 + 1·2 passes, rank 1
// with 2 (Megatron-LM, arXiv 2104.04473, figure 4, on two devices).
TEST(Interleaved, TwoRanksTwoChunks) {
  const Interleaving shape{2, 2, 2, 4};
  EXPECT_EQ(text_of(interleaved(0, shape)),
            "F0a F1a F0b F1b F2a B0b F3a B1b F2b B0a F3b B1a B2b B3b B2a B3a ");
  EXPECT_EQ(text_of(interleaved(1, shape)),
            "F0a F1a F0b B0b F1b B1b F2a B0a F3a B1a F2b B2b F3b B3b B2a B3a ");
}

// Three in a group and two left: they go through all chunks as the last group.
TEST(Interleaved, LastGroupMayBeSmaller) {
  std::string forward;
  for (const SlotSpec& s : interleaved(1, {2, 2, 3, 5}))
    if (s.kind == SlotKind::forward) forward += text_of({s});
  EXPECT_EQ(forward, "F0a F1a F2a F0b F1b F2b F3a F4a F3b F4b ");
}

template <class Visit>
void each_shape(const Visit& visit) {
  for (const int p : {2, 3, 4, 8})
    for (const int v : {2, 3, 5})
      for (const int group : {p, p + 1, 2 * p})
        for (const std::int64_t m : {p, 2 * p, 3 * p + 1, 4 * p})
          if (group <= m && (m % group == 0 || m % group >= p)) visit(Interleaving{p, v, group, m});
}

// Every chunk meets every micro-batch once each way, in order, backward after forward; the first
// rank holds at most 1 + (p − 1)/(p·v) times a whole model of micro-batches (arXiv 2205.05198,
// section 4.2.3): p·v + p − 1 chunks' worth, where the groups are of p.
TEST(Interleaved, OrderAndMicroBatchesInFlight) {
  each_shape([](const Interleaving& shape) {
    for (int stage = 0; stage < shape.stages; ++stage) {
      std::vector<int> forward(static_cast<std::size_t>(shape.chunks)), backward = forward;
      int flying = 0, most = 0;
      for (const SlotSpec& s : interleaved(stage, shape)) {
        const auto k = static_cast<std::size_t>(s.chunk);
        const bool f = s.kind == SlotKind::forward;
        EXPECT_EQ(s.micro_batch, (f ? forward : backward)[k]++);
        EXPECT_LE(backward[k], forward[k]);
        most = std::max(most, flying += f ? 1 : -1);
      }
      for (const std::vector<int>& done : {forward, backward})
        for (const int n : done) EXPECT_EQ(n, shape.micro_batches);
      const int p = shape.stages, v = shape.chunks;
      const int warm = 2 * (p - 1 - stage) + (v - 1) * shape.group + 1;
      EXPECT_EQ(most, std::min<std::int64_t>(warm, v * shape.micro_batches));
      if (stage == 0 && shape.group == p && shape.micro_batches >= 2 * p) {
        EXPECT_EQ(most, p * v + p - 1);
      }
    }
  });
}

// When each slot ends, if messages take no time; 0 if the order is a deadlock.
std::int64_t makespan(const Interleaving& shape, std::int64_t f, std::int64_t b) {
  const int last = shape.stages * shape.chunks - 1;
  std::vector<std::vector<SlotSpec>> slots;
  for (int s = 0; s < shape.stages; ++s) slots.push_back(interleaved(s, shape));
  std::map<std::tuple<bool, int, int>, std::int64_t> end;  // forward, virtual stage, micro-batch
  std::vector<std::size_t> at(slots.size());
  std::vector<std::int64_t> free(slots.size());
  for (bool moved = true; moved;) {
    moved = false;
    for (std::size_t r = 0; r < slots.size(); ++r)
      while (at[r] < slots[r].size()) {
        const SlotSpec& s = slots[r][at[r]];
        const bool forward = s.kind == SlotKind::forward;
        const int stage = s.chunk * shape.stages + static_cast<int>(r);
        std::int64_t ready = 0;
        if (forward ? stage > 0 : true) {
          const auto before =
              end.find(forward         ? std::tuple(true, stage - 1, s.micro_batch)
                       : stage == last ? std::tuple(true, stage, s.micro_batch)
                                       : std::tuple(false, stage + 1, s.micro_batch));
          if (before == end.end()) break;
          ready = before->second;
        }
        free[r] = std::max(free[r], ready) + (forward ? f : b);
        end[{forward, stage, s.micro_batch}] = free[r];
        ++at[r];
        moved = true;
      }
  }
  for (std::size_t r = 0; r < slots.size(); ++r)
    if (at[r] < slots[r].size()) return 0;
  return *std::max_element(free.begin(), free.end());
}

// The bubble is (p − 1)/(v·m) of the time without it: p − 1 times one chunk's two passes.
TEST(Interleaved, BubbleIsTheClosedForm) {
  each_shape([](const Interleaving& shape) {
    const std::int64_t f = 7, b = 12;
    const std::int64_t whole = shape.micro_batches * shape.chunks * (f + b);
    const std::int64_t bubble = (shape.stages - 1) * (f + b);
    const std::int64_t time = makespan(shape, f, b);
    if (shape.group == shape.stages) {
      EXPECT_EQ(time, whole + bubble)
          << shape.stages << ' ' << shape.chunks << ' ' << shape.micro_batches;
    } else {
      EXPECT_GE(time, whole + bubble);
    }
  });
}

// Eight alike layers; what is no layer is made free below.
ModelSpec eight_layers() {
  ModelSpec m = small_moe(8);
  m.moe.reset();
  m.layer_is_moe.assign(8, false);
  return m;
}

// The same from lowered Programs, with communication, host, embedding, head and optimizer free.
TEST(Interleaved, LoweredProgramsHaveTheBubble) {
  World world(eight_layers(), 1, 1024, 16, "megatron-core");
  for (const char* text :
       {"pp=2,mbs=1,zero=0", "pp=2,vpp=2,mbs=1,zero=0", "pp=2,vpp=4,mbs=1,zero=0",
        "pp=4,vpp=2,mbs=2,zero=0", "tp=2,sp=1,pp=4,vpp=2,mbs=1,zero=0"}) {
    const Layout l = world.layout(text);
    Program p = lower(world.setting, l, world.cache).program;
    for (BlockTemplate& block : p.blocks)
      for (std::size_t i = 0; i < block.ops.size(); ++i) {
        OpTemplate& op = block.ops[i];
        const OpInfo& info = block.infos[i];
        op.launch = 0;
        op.stream_gap = op.event_latency = 0;
        if (is_communication(info.work.kind) || info.layer < 0 || info.layer >= world.model.layers)
          op.duration = 0;
      }
    Picoseconds chunk = 0;  // forward and backward of one
    for (const std::uint32_t b : {0U, 2U})
      for (const OpTemplate& op : p.blocks[b].ops) chunk += op.duration;
    const std::int64_t m = l.micro_batches(world.work.global_batch);
    EXPECT_EQ(replay(p).makespan, (m * l.vpp + l.pp - 1) * chunk) << text;
  }
}

// Less bubble and more messages: with a slow enough bubble interleaving wins.
TEST(Interleaved, ShortensAStepWithFewMicroBatches) {
  World world("llama-2-7b", 1, 4096, 8, "megatron-core", "h200-sxm-141gb");
  const auto step = [&](const char* text) {
    return evaluate(world.setting, world.layout(text), world.cache).step;
  };
  const Picoseconds plain = step("tp=1,pp=8,recompute=full");
  const Picoseconds two = step("tp=1,pp=8,vpp=2,recompute=full");
  EXPECT_LT(two, plain);
  EXPECT_GT(two, plain * 3 / 4);  // 15/8 against 11.5/8 of the work
}

// Every rung, the check and the fold, over uneven stages, groups and ways to recompute.
TEST(Interleaved, LayoutsOfEveryKindAreSound) {
  World world(small_moe(8), 2, 1024, 48, "megatron-core", "h200-sxm-141gb");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 6;
  const std::vector<const char*> texts =
      some({"pp=2,vpp=2,mbs=2", "pp=3,vpp=2,stages=Et|t|t*3||t|t*2L,mbs=1",
            "pp=3,stages=Et*3|t*4|tL,mbs=2", "pp=4,vpp=2,mbs=1",
            "pp=2,vpp=4,vpp_group=4,mbs=2,ep=2,zero=0",
            "tp=2,sp=1,etp=1,pp=3,vpp=2,stages=Et|t*2|t|t*2|t|tL",
            "pp=2,vpp=2,recompute=full:block:1,mbs=2", "pp=2,recompute=full:uniform:3,mbs=2",
            "pp=2,vpp=2,recompute=selective:layernorm+moe_act,mbs=2",
            "pp=2,recompute=selective:moe+mlp,ep=2,mbs=2"});
  for (const char* runtime : {"megatron-core", "steploom", "megatron-2022"})
    for (const char* text : texts) {
      const Setting s{world.model,   world.work,  runtime_named(runtime),
                      world.cluster, world.costs, &world.contention};
      Layout l = parse_layout(text, 12, true);
      if (runtime == std::string("megatron-2022")) l.zero = 0;
      ASSERT_FALSE(refuse({s.model, s.work, l, 12}).has_value())
          << text << ": " << refuse({s.model, s.work, l, 12})->message;
      const Lowered folded = lower(s, l, world.cache);
      const Lowered whole = lower(s, l, world.cache, Folding::unfolded);
      const auto faults = check(folded.program);
      ASSERT_TRUE(faults.empty()) << runtime << ' ' << text << ": " << faults.front();
      const Replay a = replay(folded.program, s.replaying());
      const Replay b = replay(whole.program, s.replaying());
      EXPECT_EQ(a.makespan, b.makespan) << runtime << ' ' << text;
      const Bound bound = BoundModel(s, world.cache).bound(l);
      const Picoseconds relaxed = relaxed_makespan(folded.program);
      EXPECT_LE(bound.step, relaxed) << runtime << ' ' << text;
      EXPECT_LE(relaxed, a.makespan) << runtime << ' ' << text;
      EXPECT_LE(bound.memory, *std::max_element(a.peak_memory.begin(), a.peak_memory.end()))
          << runtime << ' ' << text;
    }
}

// Layers that the stages do not share evenly are planned too, and the search finds what there is.
TEST(Search, FindsUnevenAndInterleavedLayouts) {
  STEPLOOM_SKIP_UNDER_SANITIZERS();
  World world(small_moe(6), 1, 1024, 16, "megatron-core");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
  Runtime runtime = world.setting.runtime;
  runtime.overlaps_tp = false;  // for time
  const Setting setting{world.model,   world.work,  runtime,
                        world.cluster, world.costs, &world.contention};
  const Space space = enumerate_layouts(setting);
  int uneven = 0, chunks = 0;
  std::vector<Candidate> all;
  for (const Layout& l : space.valid) {
    uneven += l.stages.empty() ? 0 : 1;
    chunks += l.vpp > 1 ? 1 : 0;
    all.push_back(evaluate(setting, l, world.cache));
  }
  EXPECT_GT(uneven, 20);
  EXPECT_GT(chunks, 20);
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.step, a.layout) < std::tie(b.step, b.layout);
  });
  const SearchResult found = search(setting, SearchOptions{});
  ASSERT_EQ(found.best.size(), 5U);
  for (std::size_t i = 0; i < found.best.size(); ++i)
    EXPECT_EQ(found.best[i].layout, all[i].layout);
}

}  // namespace
}  // namespace steploom
