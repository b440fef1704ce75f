// What sharding leaves on a rank, in closed form and in the replay.
#include <gtest/gtest.h>

#include <algorithm>

#include "planner/lower.h"
#include "sim/check.h"
#include "sim/engine.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

Bytes peak(const Setting& s, const Layout& l, CostCache& cache) {
  const Lowered lowered = lower(s, l, cache);
  EXPECT_TRUE(check(lowered.program).empty()) << to_text(l);
  return replay(lowered.program, s.replaying()).peak_memory.front();
}

// 16 bytes a parameter less the state: 2 + 4 + 12, each over 8 ranks from its stage on.
TEST(Sharding, StateOfEachStage) {
  World world("llama-3.1-8b", 1, 1024, 16);
  const auto fixed = [&](const char* text) {
    const Layout l = world.layout(text);
    return fixed_memory(world.setting, l,
                        stage_parameters(world.model, l, stage_span(world.model, l, 0)), {});
  };
  const Bytes n = fixed("zero=0").parameters / 2;
  EXPECT_EQ(fixed("zero=1").optimizer, n * 12 / 8);
  EXPECT_EQ(fixed("zero=1").gradients, n * 4);
  EXPECT_EQ(fixed("zero=2").gradients, n * 4 / 8);
  EXPECT_EQ(fixed("zero=2").parameters, n * 2);
  EXPECT_EQ(fixed("zero=3").parameters, n * 2 / 8);
  EXPECT_EQ(fixed("zero=3,replicate=2").parameters, n * 2 / 4);
  EXPECT_EQ(fixed("zero=3,replicate=2").optimizer, n * 12 / 4);
}

// FSDP2 under a pipeline: gradients add up whole, in bf16 as the two moments; kept parameters lie
// beside their shards.
TEST(Sharding, StateUnderAPipeline) {
  World world("llama-3.1-8b", 1, 1024, 16, "torch-eager");
  const auto fixed = [&](const char* text, int stage) {
    const Layout l = world.layout(text);
    return fixed_memory(world.setting, l,
                        stage_parameters(world.model, l, stage_span(world.model, l, stage)), {});
  };
  for (const int stage : {0, 1}) {
    const MemoryParts whole = fixed("pp=2,zero=0", stage);
    const Bytes n = whole.parameters / 2;
    const MemoryParts kept = fixed("pp=2,zero=3,reshard=0", stage);
    const MemoryParts again = fixed("pp=2,zero=3", stage);
    EXPECT_EQ(kept.parameters, 2 * n + 2 * n / 4);
    EXPECT_EQ(again.parameters, 2 * n / 4);
    for (const MemoryParts& parts : {kept, again}) {
      EXPECT_EQ(parts.gradients, 2 * n);
      EXPECT_EQ(parts.optimizer, 4 * n / 4);
      EXPECT_EQ(parts.sharded + parts.replicated + parts.experts,
                parts.parameters + parts.gradients + parts.optimizer);
    }
  }
  // Of the gathered parameters at most two units of the pass lie at once.
  const Layout l = world.layout("pp=2,zero=3");
  const Bytes kept = peak(world.setting, world.layout("pp=2,zero=3,reshard=0"), world.cache);
  const Bytes again = peak(world.setting, l, world.cache);
  const Bytes all = 2 * stage_parameters(world.model, l, stage_span(world.model, l, 0)).dense();
  const Bytes layer =
      2 * stage_parameters(world.model, l, {1, 1, false, false, true, true}).dense();
  EXPECT_LE(kept - again, all);
  EXPECT_GE(kept - again, all - 3 * layer - 2 * world.model.vocab * world.model.hidden);
}

// Kept parameters: all layers' lie there when the backward pass begins, instead of two at a time.
TEST(Sharding, KeptParametersLieUntilTheBackwardPass) {
  World world("llama-3.1-8b", 1, 8192, 16);  // activations outweigh what is gathered
  const Bytes layer =
      2 * stage_parameters(world.model, world.layout(""), {1, 1, false, false, true, true}).dense();
  const Bytes kept = peak(world.setting, world.layout("zero=3,reshard=0"), world.cache);
  const Bytes again = peak(world.setting, world.layout("zero=3"), world.cache);
  EXPECT_GE(kept - again, layer * (world.model.layers - 3));
  EXPECT_LE(kept - again, layer * world.model.layers);
  EXPECT_LT(peak(world.setting, world.layout("zero=2"), world.cache),
            peak(world.setting, world.layout("zero=1"), world.cache));
}

}  // namespace
}  // namespace steploom
