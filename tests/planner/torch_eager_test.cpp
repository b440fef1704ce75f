// Steps under the runtime torch-eager: what the host bounds, what the GPU does.
#include <gtest/gtest.h>

#include <string>

#include "models/layout_rules.h"
#include "planner/bounds.h"
#include "planner/lower.h"
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

struct Step {
  Picoseconds step = 0, host = 0, device = 0, last = 0;
  Bytes fixed = 0;
};

Step step_of(World& world, const std::string& layout) {
  const Lowered l = lower(world.setting, world.layout(layout), world.cache);
  EXPECT_TRUE(check(l.program).empty());
  const Program& p = l.program;
  Step s;
  s.step = makespan(p, world.setting.replaying());
  for (const Slot& slot : p.slots)
    for (const OpTemplate& op : p.blocks[slot.block].ops) {
      s.host += op.launch;
      s.device += op.duration;
      s.last = op.duration;
    }
  s.fixed = l.memory[0].fixed() - l.memory[0].workspace - l.memory[0].buffers;
  return s;
}

struct OneGpu : World {
  OneGpu(ModelSpec m, std::int64_t seq, std::int64_t batch)
      : World(std::move(m), 1, seq, batch, "torch-eager", "h200-sxm-141gb") {
    use_gpus(cluster, 1);
    work.optimizer = Optimizer::adamw_foreach;
  }
};

// Kernels of 256 tokens are over before the next is launched: the step is its launches and the last
// kernel.
TEST(TorchEager, ASmallModelWaitsForTheHost) {
  OneGpu world(llama(12, 512), 256, 1);
  const Step s = step_of(world, "tp=1,zero=0,mbs=1");
  EXPECT_EQ(s.step, s.host + s.last);
  EXPECT_LT(s.device, s.host);
}

TEST(TorchEager, ALargeModelKeepsTheGpuBusy) {
  OneGpu world(llama(4, 4096), 4096, 2);
  const Step s = step_of(world, "tp=1,zero=0,mbs=2");
  EXPECT_LT(s.host, s.step / 2);
  EXPECT_GT(s.device, s.step * 9 / 10);
}

// bf16 parameters, gradients and two moments.
TEST(TorchEager, KeepsEightBytesAParameter) {
  const ModelSpec m = llama(2, 512);
  OneGpu world(m, 256, 1);
  const Step s = step_of(world, "tp=1,zero=0,mbs=1");
  const Layout l = world.layout("tp=1,zero=0,mbs=1");
  EXPECT_EQ(s.fixed, 8 * parameters_of(m, l, {stage_span(m, l, 0)}).total());
}

// A second micro-batch adds its gradients by kernels of their own.
TEST(TorchEager, LaunchesGrowWithMicroBatches) {
  OneGpu one(llama(2, 512), 256, 1), two(llama(2, 512), 256, 2);
  const Step a = step_of(one, "tp=1,zero=0,mbs=1"), b = step_of(two, "tp=1,zero=0,mbs=1");
  EXPECT_GT(b.host, a.host);
  EXPECT_LT(b.host, 2 * a.host + a.host / 5);
}

// Every valid layout's bound is below its relaxed length, and that below its step; PyTorch's zero=0
// and 3, pipelines and recomputation among them.
TEST(TorchEager, BoundsHold) {
  World world(llama(4, 1024), 1, 1024, 16, "torch-eager", "h200-sxm-141gb");
  use_gpus(world.cluster, 4);
  BoundModel bounds(world.setting, world.cache);
  int seen = 0;
  for (const char* text :
       {"tp=1,zero=0,mbs=1", "tp=1,zero=0,mbs=4", "tp=1,zero=3,mbs=2",
        "tp=1,zero=3,mbs=2,reshard=0", "tp=1,pp=2,zero=0,mbs=1", "tp=1,pp=4,zero=0,mbs=2",
        "tp=1,pp=2,zero=3,mbs=1", "tp=1,pp=2,zero=3,reshard=0,mbs=1",
        "tp=1,pp=2,vpp=2,zero=3,reshard=0,mbs=1", "tp=1,pp=2,zero=3,mbs=1,schedule=zb-h1",
        "tp=1,pp=2,vpp=2,zero=3,reshard=0,mbs=1,schedule=zb-v",
        "tp=1,pp=2,zero=3,mbs=2,schedule=gpipe", "tp=1,zero=0,mbs=2,recompute=full",
        "tp=1,pp=2,vpp=2,zero=0,mbs=1", "tp=1,zero=0,mbs=2,recompute=selective:mlp+layernorm"}) {
    const Layout l = world.layout(text);
    ASSERT_FALSE(refuse({world.model, world.work, l, 4, &world.setting.runtime})) << text;
    const Bound bound = bounds.bound(l);
    Lowered lowered = lower(world.setting, l, world.cache);
    lowered.program.clock = {};
    EXPECT_LE(bound.step, relaxed_makespan(lowered.program)) << text;
    const Replay replayed = replay(lowered.program, world.setting.replaying());
    EXPECT_LE(relaxed_makespan(lowered.program), replayed.makespan) << text;
    EXPECT_LE(bound.memory, replayed.peak_memory[0]) << text;
    ++seen;
  }
  EXPECT_EQ(seen, 15);
}

}  // namespace
}  // namespace steploom
