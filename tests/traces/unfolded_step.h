// The replayed step of a small model with everything in it, every rank for itself.
#pragma once

#include <string>

#include "planner/lower.h"
#include "sim/step_clock.h"
#include "sim/timeline.h"
#include "tests/planner/planning.h"

namespace steploom::testing {

struct StepOf {
  std::string layout;
  int nodes = 8;  // of eight GPUs
  int layers = 4;
  std::int64_t batch = 32;
  std::int64_t sequence = 1024;
};

inline Timeline unfolded_step(const StepOf& what) {
  const World w(small_moe(what.layers), what.nodes, what.sequence, what.batch);
  CostCache costs(w.costs);
  Lowered lowered = lower(w.setting, w.layout(what.layout), costs, Folding::unfolded);
  ReplayOptions options = w.setting.replaying();
  options.record_memory = true;
  const Replay replayed = replay_at_clock(lowered.program, options);
  return make_timeline(lowered.program, replayed);
}

}  // namespace steploom::testing
