// Links between nodes in a whole step: GPUs that share a NIC share its bandwidth.
#include <gtest/gtest.h>

#include <algorithm>

#include "planner/lower.h"
#include "sim/timeline.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

// The longest of the gradients' exchanges between two nodes, one for each of 8 tensor ranks.
Picoseconds exchange(int nics, double bandwidth) {
  ModelSpec m = small_moe(2);
  m.moe.reset();
  m.layer_is_moe.assign(2, false);
  m.attention.kv_heads = 16;
  World world(std::move(m), 2, 1024, 2);
  world.cluster.nics_per_node = nics;
  world.cluster.nic.bandwidth = bandwidth;
  const CostModel costs(world.profile, world.cluster);
  const Setting setting{world.model,   world.work, world.setting.runtime,
                        world.cluster, costs,      &world.contention};
  CostCache cache(costs);
  const Layout layout = parse_layout("tp=8,sp=1,zero=1", 16, false);
  const Lowered lowered = lower(setting, layout, cache);
  const Replay r = replay(lowered.program, setting.replaying());
  Picoseconds longest = 0;
  for (const TimelineEvent& e : make_timeline(lowered.program, r).events)
    if (e.kind == OpKind::reduce_scatter && e.group_kind == CommGroup::dp)
      longest = std::max(longest, e.end - e.joined);
  return longest;
}

TEST(Network, EightGroupsOnOneNicTakeWhatEachTakesOnAnEighth) {
  constexpr double kNic = 1e9;  // slow, so that latencies do not matter
  const auto shared = static_cast<double>(exchange(1, kNic));
  const auto own = static_cast<double>(exchange(8, kNic));
  const auto eighth = static_cast<double>(exchange(8, kNic / 8));
  ASSERT_GT(own, 0);
  EXPECT_NEAR(shared / eighth, 1, 0.1);
  EXPECT_NEAR(shared / own, 8, 0.8);
}

}  // namespace
}  // namespace steploom
