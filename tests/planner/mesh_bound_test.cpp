// What a mesh's Program says of its variants: no more than their own longest path.
#include "planner/mesh_bound.h"

#include <gtest/gtest.h>

#include <map>

#include "planner/gradient_choices.h"
#include "planner/lower.h"
#include "planner/rank_blocks.h"
#include "planner/space.h"
#include "sim/engine.h"
#include "sim/step_clock.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

// Those of its variants that the bound speaks of.
std::vector<Layout> known_variants(const Setting& s, const Layout& l) {
  std::vector<Layout> all;
  for (const GradientChoices& c : gradient_choices(s, l)) {
    all.push_back(c.placed);
    all.insert(all.end(), c.reduced.begin(), c.reduced.end());
  }
  std::erase_if(all, [&](const Layout& v) { return mesh_of(v) == v || !MeshBound::knows(s, v); });
  return all;
}

// And blocks that variants share make the Programs that each would have alone.
void compare(World& world, std::size_t meshes) {
  std::vector<std::vector<Layout>> all;
  for (const Layout& l : enumerate_layouts(world.setting).valid)
    if (l.ep > 1) all.push_back(known_variants(world.setting, l));
  std::erase_if(all, [](const std::vector<Layout>& variants) { return variants.empty(); });
  ASSERT_GE(all.size(), meshes);
  const std::size_t step = all.size() / meshes;
  for (std::size_t i = step - 1; i < all.size(); i += step) {
    BlockCache blocks;
    for (const Layout& variant : all[i]) {
      Lowered alone = lower(world.setting, variant, world.cache);
      const Lowered shared = lower(world.setting, variant, world.cache, blocks);
      const Replay a = replay(alone.program, world.setting.replaying());
      const Replay b = replay(shared.program, world.setting.replaying());
      EXPECT_EQ(a.start, b.start) << to_text(variant);
      EXPECT_EQ(a.peak_memory, b.peak_memory) << to_text(variant);
      EXPECT_EQ(alone.program.edges.size(), shared.program.edges.size()) << to_text(variant);
      MeshBound bound(world.setting, mesh_of(variant), world.cache, blocks);
      ClockedProgram clocked(alone.program);
      const Picoseconds step = clocked.makespan(world.setting.replaying());
      EXPECT_TRUE(bound.may_beat(variant, step + 1)) << to_text(variant);
      EXPECT_TRUE(bound.may_beat_reduced(variant, step + 1)) << to_text(variant);
      EXPECT_FALSE(bound.may_beat(variant, step / 4)) << to_text(variant);
    }
  }
}

TEST(MeshBound, IsNoMoreThanTheLongestPathOfAVariant) {
  World raf(small_moe(4), 1, 1024, 64, "raf");
  compare(raf, kOneIn == 1 ? 32 : 3);
  World far(small_moe(4), 2, 1024, 64, "raf", "a100-sxm-80gb");
  far.cluster.nics_per_node = 2;  // several groups share one
  compare(far, kOneIn == 1 ? 10 : 2);
  World own(small_moe(4), 1, 1020, 4, "steploom", "h200-sxm-141gb");
  compare(own, kOneIn == 1 ? 30 : 3);
}

}  // namespace
}  // namespace steploom
