#include "profiler/arena.h"

#include <gtest/gtest.h>

#include "sim/check.h"
#include "sim/engine.h"
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
    const FlatProgram flat(p);
    for (std::uint32_t rank = 0; rank < p.devices.size(); ++rank) {
      const Execution e = bind(l.input(), static_cast<int>(rank));
      const DeviceClocks clocks(flat, rank);
      struct Placed {
        Bytes from, to;
        std::uint32_t begin, end;
      };
      std::vector<Placed> placed;
      for (const Call& call : e.calls) {
        for (const TensorRef& t : call.begins)
          placed.push_back({t.offset, t.offset + t.bytes(), clocks.number(call.op), 0});
        for (const TensorRef& t : call.ends)
          for (auto it = placed.rbegin(); it != placed.rend(); ++it)
            if (it->from == t.offset && it->end == 0) {
              it->end = clocks.number(call.op);
              break;
            }
      }
      int shared = 0;
      for (const Placed& a : placed) {
        ASSERT_GT(a.end, 0U);
        EXPECT_LE(a.to, e.memories[0].bytes);
        for (const Placed& b : placed) {
          if (a.begin >= b.begin || a.to <= b.from || b.to <= a.from) continue;
          ++shared;
          EXPECT_TRUE(a.end < b.begin && clocks.knows(b.begin, a.end));
        }
      }
      EXPECT_GT(shared, 100);
      EXPECT_GE(e.memories[0].bytes, e.live_peak);
    }
  }
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
