// Messages as slots of their own, as torch.distributed.pipelining issues them: sound on every rung,
// in PyTorch's order, and what that makes of schedules.
#include "planner/message_slots.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "planner/bounds.h"
#include "planner/lower.h"
#include "planner/torch_actions.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "sim/relax.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

ModelSpec llama(int layers, std::int64_t width) {
  ModelSpec m;
  m.name = "llama";
  m.family = "test";
  m.hidden = width;
  m.layers = layers;
  m.vocab = 32000;
  m.max_positions = 4096;
  m.attention.heads = m.attention.kv_heads = static_cast<int>(width / 64);
  m.attention.head_dim = m.attention.v_head_dim = 64;
  m.dense.width = width * 11 / 4;
  m.layer_is_moe.assign(static_cast<std::size_t>(layers), false);
  return m;
}

struct Gpus : World {
  Gpus(ModelSpec m, int gpus, std::int64_t seq, std::int64_t batch)
      : World(std::move(m), 1, seq, batch, "torch-eager", "h200-sxm-141gb") {
    use_gpus(cluster, gpus);
    work.optimizer = Optimizer::adamw_fused;
  }
  Picoseconds step(const std::string& text) {
    return makespan(lower(setting, layout(text), cache).program, setting.replaying());
  }
};

// Every rung, the check and the fold.
TEST(MessageSlots, AreSound) {
  Gpus world(llama(8, 512), 4, 512, 16);
  for (const char* text :
       some({"pp=2,zero=0,mbs=1", "pp=4,zero=0,mbs=2", "pp=2,zero=0,mbs=1,schedule=gpipe",
             "pp=2,zero=0,mbs=1,schedule=zb-h1", "pp=4,zero=0,mbs=1,schedule=zb-h2",
             "pp=2,vpp=2,zero=0,mbs=1", "pp=4,vpp=2,zero=0,mbs=1,schedule=looped-bfs",
             "pp=2,vpp=4,zero=0,mbs=1,schedule=interleaved-zb",
             "pp=4,zero=0,mbs=1,schedule=searched",
             "pp=2,zero=0,mbs=1,stages=Et*5|t*3L,schedule=searched",
             "pp=2,zero=0,mbs=1,recompute=full,schedule=zb-h1",
             "pp=2,vpp=2,zero=0,mbs=1,schedule=zb-v", "pp=4,vpp=2,zero=0,mbs=1,schedule=dualpipe-v",
             "pp=2,vpp=2,zero=0,mbs=1,schedule=searched-v"})) {
    const Layout l = world.layout(text);
    const Lowered folded = lower(world.setting, l, world.cache);
    const auto faults = check(folded.program);
    ASSERT_TRUE(faults.empty()) << text << ": " << faults.front();
    const Replay a = replay(folded.program, world.setting.replaying());
    const Lowered whole = lower(world.setting, l, world.cache, Folding::unfolded);
    EXPECT_EQ(a.makespan, makespan(whole.program, world.setting.replaying())) << text;
    const Bound bound = BoundModel(world.setting, world.cache).bound(l);
    const Picoseconds relaxed = relaxed_makespan(folded.program);
    EXPECT_LE(bound.step, relaxed) << text;
    EXPECT_LE(relaxed, a.makespan) << text;
    EXPECT_LE(bound.memory, *std::max_element(a.peak_memory.begin(), a.peak_memory.end())) << text;
  }
}

// The rows that PyTorch would make of the schedule, from the slots of each device.
TEST(MessageSlots, StandInPyTorchsOrder) {
  Gpus world(llama(8, 512), 2, 512, 4);
  const Layout l = world.layout("pp=2,vpp=2,zero=0,mbs=1,schedule=interleaved-zb");
  const Lowered lowered = lower(world.setting, l, world.cache);
  const ScheduleShape shape{l.pp, l.vpp, 0, 4};
  const TorchRows rows = with_messages(torch_actions(lowered.slots, Placement::loop, shape), 4, 4);
  const Program& p = lowered.program;
  ASSERT_EQ(p.devices.size(), rows.size());
  for (std::size_t d = 0; d < rows.size(); ++d) {
    std::size_t at = p.devices[d].first_slot;
    for (const TorchAction& a : rows[d]) {
      if (a.op == TorchOp::reduce_grad) continue;
      const Slot& slot = p.slots[at++];
      const BlockTemplate& block = p.blocks[slot.block];
      EXPECT_EQ(slot.micro_batch, a.micro_batch);
      EXPECT_NE(block.name.find("chunk " + std::to_string(a.stage / 2)), block.name.npos);
      const bool sends = a.op == TorchOp::send_forward || a.op == TorchOp::send_backward;
      const char* what = sends ? "send" : is_message(a.op) ? "receive" : nullptr;
      if (what != nullptr) {
        EXPECT_EQ(block.name.rfind(what, 0), 0U) << block.name;
        ASSERT_EQ(block.ops.size(), 1U);
        EXPECT_EQ(block.ops[0].stream, static_cast<std::uint16_t>(StreamKind::pp_send));
      }
    }
    // Then the optimizer, last.
    EXPECT_EQ(at + 1, p.devices[d].first_slot + p.devices[d].slot_count);
  }
}

// stage.py: the first stage's input needs no gradient, so W runs its whole backward pass.
TEST(MessageSlots, AFirstStageDoesAllInItsWeightGradients) {
  Gpus world(llama(4, 512), 2, 512, 4);
  const auto of_stage = [&](const char* text, std::int32_t stage, SlotKind kind) {
    const Lowered lowered = lower(world.setting, world.layout(text), world.cache);
    const Program& p = lowered.program;
    Picoseconds sum = 0;
    for (std::uint32_t d = 0; d < p.devices.size(); ++d)
      for (std::uint32_t i = 0; i < p.devices[d].slot_count; ++i) {
        const Slot& s = p.slots[p.devices[d].first_slot + i];
        if (p.devices[d].stage != stage || s.kind != kind) continue;
        for (const OpTemplate& op : p.blocks[s.block].ops)
          if (op.role == kNoRole) sum += op.duration;
      }
    return sum;
  };
  constexpr const char *kSplit = "pp=2,zero=0,mbs=1,schedule=zb-h1", *kWhole = "pp=2,zero=0,mbs=1";
  EXPECT_EQ(of_stage(kSplit, 0, SlotKind::backward_data), 0);
  EXPECT_EQ(of_stage(kSplit, 0, SlotKind::backward_weight),
            of_stage(kWhole, 0, SlotKind::backward));
  const Picoseconds data = of_stage(kSplit, 1, SlotKind::backward_data),
                    weight = of_stage(kSplit, 1, SlotKind::backward_weight),
                    whole = of_stage(kWhole, 1, SlotKind::backward);
  EXPECT_GT(data, whole / 3);
  EXPECT_GT(data + weight, whole);  // W adds up every gradient that it starts from
  EXPECT_LT(data + weight, whole * 5 / 4);
}

// Large products: what 1F1B idles, a zero bubble fills. One micro-batch of small layers: the host
// issues more calls for a split backward pass, and that is all that counts.
TEST(MessageSlots, AZeroBubblePaysWhereTheDeviceIsWaitedFor) {
  Gpus large(llama(8, 4096), 2, 2048, 4);
  EXPECT_LT(large.step("pp=2,zero=0,mbs=1,schedule=zb-h1"), large.step("pp=2,zero=0,mbs=1"));
  Gpus small(llama(8, 512), 2, 256, 8);
  EXPECT_GT(small.step("pp=2,zero=0,mbs=1,schedule=zb-h1"),
            small.step("pp=2,zero=0,mbs=1") * 5 / 4);
}

}  // namespace
}  // namespace steploom
