// What a step cannot go below: by hand, and against replays.
#include "planner/certificate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "planner/lower.h"
#include "sim/engine.h"
#include "sim/step_clock.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

Picoseconds floor_of(const Certificate& c, const std::string& what) {
  const auto at = std::find_if(c.floors.begin(), c.floors.end(),
                               [&](const StepFloor& f) { return f.what.starts_with(what); });
  return at == c.floors.end() ? -1 : at->least;
}

// One rank and one micro-batch without gaps or host: kernels one after another fill the step, so
// that there is nothing to gain; without weight gradients it is shorter by just these.
TEST(Certificate, KernelsOneAfterAnotherLeaveNothing) {
  World world(small_moe(2), 1, 1024, 8, "steploom");
  world.cluster = load_cluster("h100-sxm-80gb", 1);
  Lowered lowered = lower(world.setting, world.layout("ep=1,zero=0"), world.cache);
  Picoseconds all = 0, weights = 0;
  for (BlockTemplate& b : lowered.program.blocks)
    for (std::size_t i = 0; i < b.ops.size(); ++i) {
      OpTemplate& op = b.ops[i];
      op.launch = 0;
      op.stream_gap = op.event_latency = 0;
      op.duration = op.role == kNoRole ? 1000 : 0;
    }
  const Device& d = lowered.program.devices[0];
  for (std::uint32_t s = 0; s < d.slot_count; ++s)
    for (const OpInfo& info : lowered.program.blocks[lowered.program.slots[s].block].infos) {
      if (is_communication(info.work.kind)) continue;
      all += 1000;
      if (info.work.phase == Phase::weight_grad) weights += 1000;
    }
  const Picoseconds step = replay(lowered.program).makespan;
  const Certificate c = certify(lowered.program, step);
  EXPECT_EQ(step, all);
  EXPECT_EQ(floor_of(c, "compute"), all);
  EXPECT_EQ(floor_of(c, "path as issued"), all);
  EXPECT_EQ(floor_of(c, "path without communication"), all);
  EXPECT_EQ(floor_of(c, "path without weight gradients"), all - weights);
  EXPECT_EQ(c.left(), 0);
  EXPECT_EQ(c.backward.busy, 0);
}

// No placement of weight gradients or reductions is faster than the floor of any other.
TEST(Certificate, NoPlacementGoesBelow) {
  for (const char* text :
       {"ep=8,zero=1", "ep=4,tp=2,sp=1,etp=1,zero=1", "ep=2,pp=2,zero=0", "ep=4,chunks=2,zero=0"}) {
    World world(small_everything(), 1, 1024, 16, "steploom", "h200-sxm-141gb");
    Picoseconds highest = 0, fastest = 0;
    for (const char* how : {"", ",dw=lancet", ",dw=solved", ",bucket=10000000",
                            ",dw=solved,a2a_first=1,grad_micro=4000000"}) {
      const Layout l = world.layout(std::string(text) + how);
      if (l.expert_dp() == 1 && l.dp_cp() == 1) continue;
      Lowered lowered = lower(world.setting, l, world.cache);
      lowered.program.clock = {};
      const Picoseconds step = replay(lowered.program, world.setting.replaying()).makespan;
      const Certificate c = certify(lowered.program, step);
      EXPECT_LE(c.placed, step) << text << how;
      EXPECT_EQ(
          c.floors.front().least,
          std::max_element(c.floors.begin(), c.floors.end(),
                           [](const StepFloor& a, const StepFloor& b) { return a.least < b.least; })
              ->least);
      if (std::string(how).find("bucket") == std::string::npos &&
          std::string(how).find("micro") == std::string::npos)
        highest = std::max(highest, c.placed);
      fastest = fastest == 0 ? step : std::min(fastest, step);
    }
    EXPECT_GT(highest, 0) << text;
    EXPECT_LE(highest, fastest) << text;
  }
}

}  // namespace
}  // namespace steploom
