#include "profiler/arena.h"

#include <gtest/gtest.h>

#include "profiler/check_arena.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "sim/program_text.h"
#include "tests/profiler/executing.h"

namespace steploom {
namespace {

// Tensors whose bytes overlap are ordered: the one's last use has ended when the other's first
// writer starts.
TEST(Arena, TensorsThatShareBytesAreOrdered) {
  for (const char* layout :
       {"tp=2,sp=1,pp=2,mbs=2,zero=0", "tp=1,ep=2,pp=2,mbs=3,recompute=full,zero=0"}) {
    const Lowering l(tiny_deepseek(), layout, 4, 12);
    const Program& p = l.lowered.program;
    for (std::size_t rank = 0; rank < p.devices.size(); ++rank) {
      const Execution e = bind(l.input(), static_cast<int>(rank));
      EXPECT_TRUE(check_arena(p, e).empty());
      EXPECT_GE(e.memories[0].bytes, e.live_peak);
      Bytes sum = 0;  // without sharing
      for (const Call& call : e.calls)
        for (const TensorRef& t : call.begins) sum += t.bytes();
      EXPECT_LT(e.memories[0].bytes, sum / 3);
    }
  }
}

// Two tensors of one stream that follow each other may share, two that are alive together may not.
TEST(Arena, ByHand) {
  const Program p = parse_program(R"(
    device gpu
    op a on gpu one 1us
    op b on gpu one 1us
    op c on gpu two 1us
    op d on gpu two 1us after=b
  )")
                        .program;
  const FlatProgram flat(p);
  const DeviceClocks clocks(flat, 0);
  // a's tensor ends with a. b knows that, c on another stream does not, d does through b.
  const std::vector<Life> lives{{512, 1, 1}, {512, 2, 2}, {512, 3, 3}, {512, 4, 4}};
  const ArenaPlan plan = plan_arena(lives, clocks);
  EXPECT_EQ(plan.offsets[0], plan.offsets[1]);
  EXPECT_NE(plan.offsets[0], plan.offsets[2]);
  EXPECT_EQ(plan.bytes, 1024);
  EXPECT_EQ(plan.live_peak, 512);
}

struct Sizes {
  const char* model;
  const char* layout;
  int devices;
  std::int64_t batch;
};
class ArenaOf : public testing::TestWithParam<Sizes> {};

// The executor's arena is the peak of activations that the replay predicts, within 3 %.
TEST_P(ArenaOf, IsThePredictedPeak) {
  const Sizes& s = GetParam();
  World w(load_model(s.model), 1, 4096, s.batch, "steploom", "h200-sxm-141gb");
  w.cluster.devices_per_node = s.devices;
  const Layout layout = parse_layout(s.layout, s.devices, w.model.has_moe());
  const Lowered lowered = lower(w.setting, layout, w.cache, Folding::unfolded);
  const Program& p = lowered.program;
  const Replay r = replay(p);
  for (const std::size_t rank : {std::size_t{0}, p.devices.size() - 1}) {
    const Execution e =
        bind({w.model, w.work, layout, w.setting.runtime, p}, static_cast<int>(rank));
    const auto predicted = static_cast<double>(r.peak_memory[rank] - p.devices[rank].static_bytes);
    EXPECT_NEAR(static_cast<double>(e.memories[0].bytes) / predicted, 1, 0.03) << rank;
    // Parameters, gradients and optimizer states are what is fixed.
    const MemoryParts& parts = lowered.memory[rank];
    EXPECT_EQ(e.memories[1].bytes, parts.parameters);
    EXPECT_EQ(e.memories[2].bytes, parts.gradients);
    EXPECT_EQ(e.memories[3].bytes + e.memories[4].bytes + e.memories[5].bytes, parts.optimizer);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Execution, ArenaOf,
    testing::Values(Sizes{"llama-3.1-8b", "tp=1,pp=4,mbs=1,zero=0", 4, 24},
                    Sizes{"llama-3.1-8b", "tp=1,pp=4,mbs=1,zero=0,recompute=full", 4, 8},
                    Sizes{"mixtral-8x7b", "tp=1,ep=4,pp=2,mbs=1,zero=1", 8, 16}));

// Messages wait for room, and nobody waits for ever.
TEST(Arena, DeepPipelinesStaySound) {
  ModelSpec m = tiny_dense();
  m.layers = 8;
  m.layer_is_moe.assign(8, false);
  m.hidden = 2048;  // messages above NCCL's buffer: the sender waits for the receiver
  World w(m, 1, 2048, 1, "steploom", "h200-sxm-141gb");
  w.cluster.devices_per_node = 8;
  for (const char* layout : {"tp=1,pp=8,mbs=1,zero=0", "tp=1,pp=4,mbs=1,zero=0"})
    for (const int micro_batches : {1, 2, 5, 8, 20}) {
      const Layout l = parse_layout(layout, 8, false);
      w.work.global_batch = micro_batches * l.dp;
      EXPECT_TRUE(check(lower(w.setting, l, w.cache, Folding::unfolded).program).empty());
    }
}

}  // namespace
}  // namespace steploom
