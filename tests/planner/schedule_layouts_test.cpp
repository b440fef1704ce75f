// Layouts with schedules other than 1F1B, lowered: sound on every rung, with the bubble and the
// memory that the lists of slots say.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/schedule_times.h"
#include "planner/search.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

// Every rung, the check and the fold.
TEST(ScheduleLayouts, AreSound) {
  World world(small_moe(8), 2, 1024, 48, "steploom", "h200-sxm-141gb");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 6;
  const std::vector<const char*> texts =
      some({"pp=4,schedule=zb-h1", "pp=3,stages=Et*3|t*4|tL,mbs=2,schedule=zb-h2",
            "pp=2,mbs=2,schedule=gpipe", "pp=2,vpp=2,mbs=2,schedule=looped-bfs",
            "pp=2,vpp=4,vpp_group=4,mbs=2,ep=2,zero=0,schedule=interleaved-zb",
            "pp=3,vpp=2,stages=Et|t|t*3||t|t*2L,schedule=interleaved-zb",
            "tp=2,sp=1,etp=1,pp=3,stages=Et*2|t*3|t*3L,schedule=zb-h1",
            "pp=2,recompute=full:uniform:2,mbs=2,schedule=zb-h1",
            "pp=2,recompute=selective:layernorm+moe_act,mbs=2,schedule=zb-h2",
            "pp=2,mbs=2,ep=2,chunks=2,schedule=zb-h1", "pp=4,mbs=2,schedule=searched",
            "pp=3,stages=Et|t*4|t*3L,schedule=searched"});
  for (const char* runtime : {"megatron-core", "steploom"})
    for (const char* text : texts) {
      const Setting s{world.model,   world.work,  runtime_named(runtime),
                      world.cluster, world.costs, &world.contention};
      const Layout l = parse_layout(text, 12, true);
      EXPECT_EQ(parse_layout(to_text(l), 12, true), l) << text;
      // Several chunks need more buffers than our executor has.
      if (l.vpp > 1 && runtime == std::string("steploom")) continue;
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

// Layers alone, without launches, gaps or messages: a step is what schedule_times.h makes of the
// slots and of the passes' durations.
TEST(ScheduleLayouts, LoweredProgramsRunAsTheirSlots) {
  World world(small_moe(8), 1, 1024, 16, "megatron-core");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
  for (const char* text :
       {"pp=4,ep=1,schedule=zb-h1", "pp=4,schedule=zb-h2", "pp=4,schedule=gpipe",
        "pp=2,vpp=2,schedule=interleaved-zb", "pp=2,vpp=2,schedule=looped-bfs"}) {
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
    ScheduleProblem problem{
        Placement::loop, {l.pp, l.vpp, 0, l.micro_batches(world.work.global_batch)}, {}, {}};
    problem.stages.resize(static_cast<std::size_t>(l.virtual_stages()));
    const ScheduleSlots slots = slots_of(l, problem.shape.micro_batches);
    for (const Device& d : p.devices)
      for (std::uint32_t k = 0; k + 1 < d.slot_count; ++k) {
        const SlotSpec& spec =
            slots[static_cast<std::size_t>(d.stage)][static_cast<std::size_t>(k)];
        const Slot& slot = p.slots[d.first_slot + k];
        ASSERT_EQ(slot.kind, spec.kind);
        ASSERT_EQ(slot.micro_batch, spec.micro_batch);
        Picoseconds sum = 0;
        for (const OpTemplate& op : p.blocks[slot.block].ops) sum += op.duration;
        StageCosts& stage = problem.stages[static_cast<std::size_t>(spec.chunk * l.pp + d.stage)];
        if (spec.kind == SlotKind::forward) stage.forward = sum;
        if (spec.kind == SlotKind::backward_weight) stage.weight = sum;
        if (spec.kind == SlotKind::backward || spec.kind == SlotKind::backward_data)
          stage.data = sum;
      }
    const ScheduleTimes times = times_of(problem, slots);
    EXPECT_EQ(times.fault, "");
    EXPECT_EQ(replay(p).makespan, times.step) << text;
  }
}

// Four stages of a dense model and eight micro-batches: zero bubble saves most of a bubble that is
// a fifth of the step, H2 more with more memory, and the search no less than either.
TEST(ScheduleLayouts, ZeroBubbleShortensAStep) {
  World world("llama-2-7b", 1, 4096, 8, "steploom", "h200-sxm-141gb");
  world.cluster.devices_per_node = world.cluster.nics_per_node = 4;
  const auto of = [&](const std::string& text) {
    return evaluate(world.setting, world.layout(text), world.cache);
  };
  const Candidate plain = of("tp=1,pp=4,recompute=full");
  const Candidate h1 = of("tp=1,pp=4,recompute=full,schedule=zb-h1");
  const Candidate h2 = of("tp=1,pp=4,recompute=full,schedule=zb-h2");
  const Candidate found = of("tp=1,pp=4,recompute=full,schedule=searched");
  EXPECT_LT(h1.step, plain.step * 95 / 100);
  EXPECT_LT(plain.step * 3 / 4, h1.step);
  EXPECT_GT(h2.memory, h1.memory);
  EXPECT_LT(h2.step, h1.step);
  EXPECT_LE(found.step, h2.step);
  EXPECT_LT(found.memory, world.cluster.device.memory);
}

TEST(ScheduleLayouts, RulesSayWhatDoesNotGoTogether) {
  World world(small_moe(8), 1, 1024, 16, "steploom");
  const auto why = [&](const char* text, const char* runtime) {
    const Layout l = world.layout(text);
    const Runtime& r = runtime_named(runtime);
    const auto refusal = refuse({world.model, world.work, l, world.cluster.devices(), &r});
    return refusal ? refusal->message : std::string();
  };
  EXPECT_EQ(why("pp=4,schedule=zb-h1", "steploom"), "");
  EXPECT_NE(why("pp=4,schedule=zb-h1", "megatron-core").find("schedule must be 1f1b"),
            std::string::npos);
  EXPECT_NE(why("pp=2,vpp=2,schedule=zb-h1", "steploom").find("vpp must be 1"), std::string::npos);
  EXPECT_NE(why("pp=2,vpp=2,schedule=looped-bfs", "steploom").find("too few buffers"),
            std::string::npos);
  EXPECT_NE(why("pp=1,schedule=gpipe", "steploom").find("choose pp > 1"), std::string::npos);
}

}  // namespace
}  // namespace steploom
