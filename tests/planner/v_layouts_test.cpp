// Layouts whose stages lie in a V, lowered: sound on every rung, with the bubbles and the memory of
// their papers, and without messages where the V turns.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/ranks.h"
#include "planner/schedule_times.h"
#include "planner/search.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "tests/planner/planning.h"
#include "tests/planner/schedule_costs.h"

namespace steploom {
namespace {

ModelSpec dense(int layers, bool tied = false) {
  ModelSpec m = small_moe(layers);
  m.moe.reset();
  m.layer_is_moe.assign(static_cast<std::size_t>(layers), false);
  m.tied_embeddings = tied;
  return m;
}

void expect_sound(const World& world, const char* runtime, const char* text) {
  CostCache costs(world.costs);
  const Setting s{world.model,   world.work,  runtime_named(runtime),
                  world.cluster, world.costs, &world.contention};
  const Layout l = world.layout(text);
  EXPECT_EQ(parse_layout(to_text(l), world.cluster.devices(), world.model.has_moe()), l) << text;
  const auto refusal = refuse({s.model, s.work, l, world.cluster.devices(), &s.runtime});
  ASSERT_FALSE(refusal.has_value()) << runtime << ' ' << text << ": " << refusal->message;
  const Lowered folded = lower(s, l, costs);
  const Lowered whole = lower(s, l, costs, Folding::unfolded);
  const auto faults = check(whole.program);
  ASSERT_TRUE(faults.empty()) << runtime << ' ' << text << ": " << faults.front();
  const Replay a = replay(folded.program, s.replaying());
  const Replay b = replay(whole.program, s.replaying());
  EXPECT_EQ(a.makespan, b.makespan) << runtime << ' ' << text;
  EXPECT_EQ(*std::max_element(a.peak_memory.begin(), a.peak_memory.end()),
            *std::max_element(b.peak_memory.begin(), b.peak_memory.end()))
      << runtime << ' ' << text;
  const Bound bound = BoundModel(s, costs).bound(l);
  const Picoseconds relaxed = relaxed_makespan(folded.program);
  EXPECT_LE(bound.step, relaxed) << runtime << ' ' << text;
  EXPECT_LE(relaxed, a.makespan) << runtime << ' ' << text;
  EXPECT_LE(bound.memory, *std::max_element(a.peak_memory.begin(), a.peak_memory.end()))
      << runtime << ' ' << text;
}

// Every rung, the check and the fold: even and uneven stages, empty ones, few micro-batches,
// experts and tensor parallelism.
TEST(VLayouts, AreSound) {
  World world(small_moe(12), 2, 1024, 48, "steploom", "h200-sxm-141gb");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 6;
  for (const char* text :
       some({"pp=3,vpp=2,ep=2,mbs=2,schedule=zb-v", "pp=2,vpp=2,mbs=4,schedule=v-half",
             "pp=3,vpp=2,stages=Et*3|t*2||t|t*4|t*2L,schedule=v-min,zero=0",
             "pp=3,vpp=2,stages=Et*4|t*3||||t*5L,schedule=zb-v",
             "tp=2,sp=1,etp=1,pp=3,vpp=2,mbs=4,schedule=dualpipe-v",
             "pp=6,vpp=2,mbs=12,schedule=zb-v",
             "pp=2,vpp=2,recompute=full,mbs=2,schedule=dualpipe-v",
             "pp=3,vpp=2,mbs=2,ep=4,schedule=searched-v"}))
    expect_sound(world, "steploom", text);
  World tied(dense(12, true), 2, 1024, 48, "torch-eager", "h200-sxm-141gb");
  tied.cluster.devices_per_node = tied.cluster.nics_per_node = 6;
  for (const char* text :
       some({"pp=3,vpp=2,mbs=2,zero=0,schedule=zb-v", "pp=6,vpp=2,zero=0,schedule=dualpipe-v",
             "pp=3,vpp=2,stages=Et|t*4|t*3|t|t|t*2L,mbs=2,zero=0,schedule=searched-v"}))
    expect_sound(tied, "torch-eager", text);
  for (const char* text : {"pp=3,vpp=2,mbs=2,schedule=searched-v", "pp=2,vpp=2,schedule=v-half"})
    expect_sound(tied, "steploom", text);
}

// The kernels that have to run, one a slot.
std::vector<std::uint32_t> first_kernels(const Program& p) {
  std::vector<std::uint32_t> out;
  for (const BlockTemplate& block : p.blocks) {
    const auto at = std::find_if(block.ops.begin(), block.ops.end(), [](const OpTemplate& op) {
      return op.stream == static_cast<std::uint16_t>(StreamKind::compute);
    });
    out.push_back(static_cast<std::uint32_t>(at - block.ops.begin()));
  }
  return out;
}

// F = B = W, everything else free; a stage's forward pass takes a byte, which W gives back.
Program with_even_passes(Program p, Picoseconds pass) {
  const std::vector<std::uint32_t> kernels = first_kernels(p);
  std::vector<SlotKind> kind(p.blocks.size(), SlotKind::optimizer);
  for (const Slot& slot : p.slots) kind[slot.block] = slot.kind;
  for (Device& d : p.devices) d.static_bytes = 0;
  for (std::size_t b = 0; b < p.blocks.size(); ++b) {
    for (OpTemplate& op : p.blocks[b].ops) {
      op.duration = op.launch = 0;
      op.stream_gap = op.event_latency = 0;
      op.alloc = op.free = 0;
      op.host_waits = false;
    }
    if (kind[b] == SlotKind::optimizer) continue;
    OpTemplate& op = p.blocks[b].ops[kernels[b]];
    op.duration = kind[b] == SlotKind::backward ? 2 * pass : pass;
    if (kind[b] == SlotKind::forward) op.alloc = 1;
    if (kind[b] == SlotKind::backward || kind[b] == SlotKind::backward_weight) op.free = 1;
  }
  return p;
}

struct Measured {
  Picoseconds bubble = 0;  // the most that a device idles between its first and its last pass
  std::vector<Bytes> peak;
};

Measured measure(const Program& p, Picoseconds pass) {
  const Replay r = replay(p);
  const std::vector<std::uint32_t> kernels = first_kernels(p);
  Measured out{0, r.peak_memory};
  for (const Device& d : p.devices) {
    Picoseconds work = 0, from = r.makespan, to = 0;
    for (std::uint32_t k = 0; k + 1 < d.slot_count; ++k) {
      const Slot& slot = p.slots[d.first_slot + k];
      const std::uint32_t op = slot.first_op + kernels[slot.block];
      work += r.end[op] - r.start[op];
      from = std::min(from, r.start[op]);
      to = std::max(to, r.end[op]);
    }
    EXPECT_EQ(work % pass, 0);
    out.bubble = std::max(out.bubble, to - from - work);
  }
  return out;
}

// Stages of equal passes, by a layout's schedule; messages in the passes.
Measured even(const std::string& schedule, int p, std::int64_t m, Picoseconds pass) {
  World world(dense(2 * p), 1, 1024, m, "torch-eager");
  world.cluster.devices_per_node = world.cluster.nics_per_node = p;
  const Layout l = world.layout("pp=" + std::to_string(p) + ",zero=0" + schedule);
  Runtime runtime = world.setting.runtime;
  runtime.messages_apart = false;
  const Setting s{world.model, world.work, runtime, world.cluster, world.costs, &world.contention};
  return measure(with_even_passes(lower(s, l, world.cache).program, pass), pass);
}

// ZB-V (arXiv 2401.10241, section 6) has none where F = B = W, DualPipeV (p − 1)(F&B + B − 3W) of p
// ranks at most, here with passes of a pair one after another; V-Half and V-Min (arXiv 2405.15362)
// at most a half and two thirds of 1F1B's, 6(p − 1) passes, and what collisions cost.
TEST(VLayouts, BubblesAreThoseOfThePapers) {
  for (const int p : {2, 4, 6}) {
    const int m = 3 * p;
    EXPECT_EQ(even("", p, m, 60).bubble, (p - 1) * 3 * 60);  // of a stage, not of half of one
    EXPECT_EQ(even(",vpp=2,schedule=zb-v", p, m, 60).bubble, 0);
    EXPECT_LE(even(",vpp=2,schedule=dualpipe-v", p, m, 60).bubble, (p - 1) * (3 + 2 - 3) * 60);
    EXPECT_LE(even(",vpp=2,schedule=v-half", p, m, 60).bubble, 3 * (p - 1) * 60);
    EXPECT_LE(even(",vpp=2,schedule=v-min", p, m, 60).bubble, (4 * (p - 1) + 2) * 60);
  }
}

// And for all of them what schedule_times.h makes of the slots.
TEST(VLayouts, LoweredProgramsRunAsTheirSlots) {
  for (const char* name : {"zb-v", "v-half", "v-min", "dualpipe-v"})
    for (const int p : {3, 4}) {
      const ScheduleShape shape{p, 2, 0, 2 * p + 1};
      ScheduleSlots slots = find_schedule(name)->slots(shape);
      for (RankSlots& rank : slots)
        for (SlotSpec& slot : rank) slot.beside_next = false;
      const ScheduleTimes times =
          times_of(even_problem(Placement::v, shape, {60, 60, 60, 0, 0, 1, 1}), slots);
      ASSERT_EQ(times.fault, "");
      const Measured found =
          even(",vpp=2,schedule=" + std::string(name), p, shape.micro_batches, 60);
      EXPECT_EQ(found.bubble, times.bubble) << name;
      EXPECT_EQ(found.peak, times.peak) << name;
    }
}

// In stages' activations of one micro-batch, of which a rank has two: 1F1B's p whole micro-batches
// are 2p; ZB-V's as many, V-Half's p/2 + 1 whole ones, V-Min's p/3 and a little.
TEST(VLayouts, MemoryIsThatOfThePapers) {
  for (const int p : {4, 6}) {
    const auto most = [&](const std::string& schedule) {
      const Measured m = even(schedule, p, 3 * p, 60);
      return *std::max_element(m.peak.begin(), m.peak.end());
    };
    EXPECT_EQ(most(",vpp=2,schedule=zb-v"), 2 * p);
    EXPECT_LE(most(",vpp=2,schedule=v-half"), p + 2);
    EXPECT_LE(most(",vpp=2,schedule=v-min"), (2 * p + 8) / 3);
    EXPECT_LE(most(",vpp=2,schedule=dualpipe-v"), 2 * p + 1);
  }
}

// With real tensors: what a rank holds beside its parameters, against 1F1B's first rank. B gives
// back some of it before W does.
TEST(VLayouts, ActivationsShrinkAsTheySay) {
  World world(dense(16), 1, 4096, 24, "steploom");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 8;
  const auto activations = [&](const std::string& schedule) {
    const Layout l = world.layout("pp=8,zero=0,stages=E" + schedule);
    const Program p = lower(world.setting, l, world.cache).program;
    const Replay r = replay(p);
    Bytes most = 0;  // of ranks that hold layers alone
    for (std::size_t d = 1; d + 1 < p.devices.size(); ++d)
      most = std::max(most, r.peak_memory[d] - p.devices[d].static_bytes);
    return static_cast<double>(most);
  };
  const double plain = activations("t*2|(t*2|)*6t*2L");  // 7 micro-batches on rank 1
  const std::string v = "t|(t|)*14tL,vpp=2,schedule=";
  EXPECT_NEAR(activations(v + "zb-v") / plain, 8.0 / 7, 0.12);
  EXPECT_NEAR(activations(v + "v-half") / plain, 5.0 / 7, 0.12);
  EXPECT_NEAR(activations(v + "v-min") / plain, 4.0 / 7, 0.12);
}

// Rank p − 1 goes on with its own output: it talks to rank p − 2 alone, two messages each way, and
// the tensor that it hands on is there once.
TEST(VLayouts, NoMessagesWhereTheVTurns) {
  World world(dense(8), 1, 1024, 8, "torch-eager");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
  const Layout l = world.layout("pp=4,vpp=2,zero=0,schedule=zb-v");
  const Program p = lower(world.setting, l, world.cache, Folding::unfolded).program;
  std::map<int, int> messages;
  for (const Device& d : p.devices)
    for (std::uint32_t s = d.first_slot; s < d.first_slot + d.slot_count; ++s)
      for (const OpInfo& info : p.blocks[p.slots[s].block].infos)
        messages[d.stage] += info.work.kind == OpKind::send_recv ? 1 : 0;
  EXPECT_EQ(messages, (std::map<int, int>{{0, 4 * 8}, {1, 8 * 8}, {2, 8 * 8}, {3, 4 * 8}}));
  const std::vector<ProgramTensor>& tensors = p.tensor_tables[p.devices[3].tensor_table];
  EXPECT_EQ(std::count_if(tensors.begin(), tensors.end(),
                          [](const ProgramTensor& t) { return t.name == "receive activations"; }),
            1);
}

// Messages that go up the ranks have pairs of their own.
TEST(VLayouts, PairsGoBothWays) {
  const World world(dense(8), 1, 1024, 16, "steploom");
  const Layout l = world.layout("tp=2,sp=1,pp=4,vpp=2,schedule=zb-v");
  const RankTable t = rank_table(world.model, l, world.cluster);
  const auto pair = [&](int rank, CommGroup group, int chunk) {
    const std::int32_t g = t.group_of[static_cast<std::size_t>(rank)][role_of(group, l, chunk)];
    return g < 0 ? std::vector<int>{} : t.groups[static_cast<std::size_t>(g)].ranks;
  };
  using Ranks = std::vector<int>;
  EXPECT_EQ(pair(3, CommGroup::pp_forward_out, 0), (Ranks{3, 5}));
  EXPECT_EQ(pair(3, CommGroup::pp_forward_out, 1), (Ranks{3, 1}));
  EXPECT_EQ(pair(3, CommGroup::pp_backward_out, 1), (Ranks{3, 5}));
  EXPECT_EQ(pair(3, CommGroup::pp_backward_in, 1), (Ranks{1, 3}));
  EXPECT_EQ(pair(7, CommGroup::pp_forward_out, 0), Ranks{});
  EXPECT_EQ(pair(7, CommGroup::pp_forward_in, 1), Ranks{});
  EXPECT_EQ(pair(1, CommGroup::pp_forward_out, 1), Ranks{});
}

// Embedding and head lie on rank 0: one table there, none elsewhere, and nothing summed between
// ranks. In line there are two tables, and an all-reduce.
TEST(VLayouts, TiedEmbeddingsAreOneTable) {
  const auto of = [](bool tied, const std::string& rest) {
    World world(dense(8, tied), 1, 1024, 8, "steploom");
    world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
    const Layout l = world.layout("pp=4,zero=0" + rest);
    const Lowered lowered = lower(world.setting, l, world.cache);
    bool summed = false;
    for (const BlockTemplate& b : lowered.program.blocks)
      for (const OpInfo& info : b.infos) summed |= info.group == CommGroup::embedding;
    std::vector<Bytes> parameters;
    for (const MemoryParts& m : lowered.memory) parameters.push_back(m.parameters);
    return std::pair(summed, parameters);
  };
  const auto [in_line, line] = of(true, "");
  const auto [in_v, v] = of(true, ",vpp=2,schedule=zb-v");
  const auto [apart, untied] = of(false, ",vpp=2,schedule=zb-v");
  EXPECT_TRUE(in_line);
  EXPECT_FALSE(in_v);
  EXPECT_FALSE(apart);
  const Bytes table = 32000 * 1024 * 2;
  EXPECT_EQ(untied.front() - v.front(), table);
  EXPECT_EQ(line.back() - v.back(), table + 1024 * 2);  // and the head's norm
  EXPECT_EQ(line.front() + 1024 * 2, v.front());
}

// The embedding's gradients are reduced when its last weight gradients are there, which the head's
// must precede.
TEST(VLayouts, TheFirstStageEndsLast) {
  for (const NamedSchedule& named : named_schedules()) {
    if (named.placement != Placement::v) continue;
    for (int p = 2; p <= 8; ++p)
      for (std::int64_t m = 1; m <= 3 * p; ++m) {
        const ScheduleShape shape{p, 2, 0, m};
        if (!refusal(named, shape).empty()) continue;
        const RankSlots rank = named.slots(shape).front();
        const auto last = std::find_if(rank.rbegin(), rank.rend(), [](const SlotSpec& s) {
          return s.kind == SlotKind::backward || s.kind == SlotKind::backward_weight;
        });
        EXPECT_EQ(last->chunk, 0) << named.name << ' ' << p << ' ' << m;
      }
  }
}

// Four ranks of a dense model: ZB-V and the search have less bubble than interleaved 1F1B.
TEST(VLayouts, ShortenAStep) {
  World world("llama-2-7b", 1, 4096, 8, "steploom", "h200-sxm-141gb");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
  const auto step = [&](const std::string& text) {
    return evaluate(world.setting, world.layout("tp=1,pp=4,recompute=full" + text), world.cache)
        .step;
  };
  const Picoseconds interleaved = step(",vpp=2"), zb_v = step(",vpp=2,schedule=zb-v");
  EXPECT_LT(zb_v, interleaved);
  EXPECT_LT(step(",vpp=2,schedule=searched-v"), interleaved);
  EXPECT_GT(zb_v, interleaved * 3 / 4);
}

TEST(VLayouts, RulesSayWhatDoesNotGoTogether) {
  World world(small_moe(8), 1, 1024, 16, "steploom");
  const auto why = [&](const char* text, const char* runtime) {
    const Layout l = world.layout(text);
    const Runtime& r = runtime_named(runtime);
    const auto refusal = refuse({world.model, world.work, l, world.cluster.devices(), &r});
    return refusal ? refusal->message : std::string();
  };
  EXPECT_EQ(why("pp=4,vpp=2,schedule=zb-v", "steploom"), "");
  EXPECT_NE(why("pp=4,schedule=zb-v", "steploom").find("vpp must be 2"), std::string::npos);
  EXPECT_NE(why("pp=2,vpp=4,schedule=zb-v", "steploom").find("vpp must be 2"), std::string::npos);
  EXPECT_NE(why("pp=4,vpp=2,vpp_group=4,schedule=v-min", "steploom").find("no groups"),
            std::string::npos);
  EXPECT_NE(why("pp=4,vpp=2,mbs=2,schedule=dualpipe-v", "steploom").find("2·pp=8 or more"),
            std::string::npos);
  EXPECT_NE(why("pp=4,vpp=2,schedule=zb-v", "megatron-core").find("schedule must be 1f1b"),
            std::string::npos);
}

}  // namespace
}  // namespace steploom
