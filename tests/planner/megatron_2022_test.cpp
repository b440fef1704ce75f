// The set-ups of Korthikanti et al. (arXiv 2205.05198, tables 3 to 5) under the runtime
// megatron-2022: memory of the replay against the paper's closed forms.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "planner/lower.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

struct Row {
  const char* model;
  int nodes, pp, vpp;
  std::int64_t micro_batch, batch;
};
// Batches cut to three passes of the pipeline: in flight there is no more than in a whole step.
constexpr Row kRows[] = {{"megatron-22b", 1, 1, 1, 4, 8}, {"megatron-175b", 8, 8, 3, 1, 24}};

class Memory2022 : public testing::TestWithParam<Row> {};

// Activations of the first rank, s·b·h·L·x·(1 + (p − 1)/(p·v)) with x by what is recomputed. The
// replay has no less, and more by what the closed form leaves out: embedding, head (one stage: its
// fp32 softmax) and what lives inside a layer's backward pass.
TEST_P(Memory2022, ActivationsOfTheFirstRank) {
  const Row& r = GetParam();
  World world(load_model(r.model), r.nodes, 2048, r.batch, "megatron-2022");
  world.work.precision = Precision::fp16;
  const ModelSpec& m = world.model;
  const double h = static_cast<double>(m.hidden), s = 2048, t = 8;
  const double square = 5 * m.attention.heads * s / h;
  const double sbhl = s * static_cast<double>(r.micro_batch) * h * m.layers;
  const double factor = 1 + (r.pp - 1.0) / (r.pp * r.vpp);
  const auto ratio = [&](const std::string& how, double x) {
    const Layout l = world.layout("tp=8,zero=0,mbs=" + std::to_string(r.micro_batch) + ",pp=" +
                                  std::to_string(r.pp) + ",vpp=" + std::to_string(r.vpp) + how);
    const Lowered lowered = lower(world.setting, l, world.cache);
    const Replay replayed = replay(lowered.program, world.setting.replaying());
    const Bytes activations = replayed.peak_memory[0] - lowered.memory[0].fixed();
    return static_cast<double>(activations) / (sbhl * x * factor);
  };
  const double none = ratio("", 10 + 24 / t + square / t);
  EXPECT_GT(none, 0.999);
  EXPECT_LT(none, 1.12);
  const double best = ratio(",sp=1,recompute=selective", 34 / t);
  EXPECT_GT(best, 0.999);
  EXPECT_LT(best, 1.35);  // five squares of one layer live while it is run again
  const double full = ratio(",recompute=full", 2);
  EXPECT_GT(full, 0.999);
  RecordProperty("none", std::to_string(none));
  RecordProperty("selective", std::to_string(best));
  RecordProperty("full", std::to_string(full));
}

INSTANTIATE_TEST_SUITE_P(Korthikanti, Memory2022, testing::ValuesIn(kRows),
                         [](const auto& info) { return std::string(info.param.model).substr(9); });

// Selective recomputation costs the forward pass of core attention once more, and no collective.
TEST(Megatron2022, SelectiveRunsCoreAttentionAgain) {
  World world(load_model("megatron-22b"), 1, 2048, 4, "megatron-2022");
  world.work.precision = Precision::fp16;
  const auto flops = [&](const char* how) {
    const Lowered l = lower(world.setting,
                            world.layout(std::string("tp=8,sp=1,zero=0,mbs=4") + how), world.cache);
    EXPECT_TRUE(check(l.program).empty());
    double sum = 0;
    for (const OpInfo& info : l.program.blocks[2].infos) sum += info.work.flops;
    return sum;
  };
  const double s = 2048, b = 4, h = 6144, layers = 48, t = 8;
  EXPECT_DOUBLE_EQ(flops(",recompute=selective") - flops(""), 4 * b * s * s * h * layers / t);
}

}  // namespace
}  // namespace steploom
