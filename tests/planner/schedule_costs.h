// Times of stages for the tests of schedules.
#pragma once

#include <random>

#include "planner/schedule_times.h"

namespace steploom {

// All stages alike, no messages; a stage's activations are one byte, which W needs too.
inline ScheduleProblem even_problem(Placement placement, const ScheduleShape& shape,
                                    const StageCosts& stage) {
  ScheduleProblem problem{placement, shape, {}, {}};
  problem.stages.assign(static_cast<std::size_t>(stages_of(placement, shape)), stage);
  return problem;
}

// Whole numbers from 70 to 130 for every F, B and W, messages of 10, as the seed has it; of every
// third seed passes beside others hide 40.
inline ScheduleProblem uneven_problem(Placement placement, const ScheduleShape& shape,
                                      std::uint32_t seed) {
  std::mt19937 random(seed);
  ScheduleProblem problem{placement, shape, {}, {}};
  const auto time = [&] { return static_cast<Picoseconds>(70 + random() % 61); };
  for (int s = 0; s < stages_of(placement, shape); ++s) {
    StageCosts stage;
    stage.forward = time();
    stage.data = time();
    stage.weight = time();
    stage.to_next = stage.to_previous = 10;
    stage.saved = stage.kept = 1;
    if (seed % 3 == 0) stage.hidden = 40;
    problem.stages.push_back(stage);
  }
  return problem;
}

}  // namespace steploom
