// A plan that is to be run, and what is predicted of it before anything runs.
//
// The Program is lowered unfolded, every rank for itself, and checked. The prediction is a JSON
// text whose FNV-1a digest is printed, and stored with the text, before the first step: nobody can
// say afterwards that the figures were fitted.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "planner/lower.h"
#include "planner/plan_file.h"
#include "profiler/bind.h"
#include "sim/engine.h"
#include "tools/question.h"

namespace steploom {

struct Prediction {
  Replay replay;                               // of the unfolded Program
  Picoseconds issue = 0;                       // host time to issue the step, the busiest rank
  std::array<Picoseconds, kOpClasses> busy{};  // by class, waiting for peers included, mean
  Bytes memory = 0;                            // peak of the fullest rank
  std::string text;                            // JSON
  std::string digest;                          // of the text
};

struct RunPlan {
  std::string name;  // of the file, without .json
  Plan plan;
  std::unique_ptr<Question> question;
  std::unique_ptr<CostCache> costs;
  Layout layout;
  Lowered lowered;  // unfolded
  Prediction prediction;

  BindInput input() const;
};

// Time that operators of each class take in a replay, or in what was traced of it.
std::array<Picoseconds, kOpClasses> busy_times(const Program& program, const Replay& replay);

// Loads, lowers, checks and predicts. Throws Error: another runtime than steploom, an unsound
// Program, another profile than the plan's unless `rebase`.
std::unique_ptr<RunPlan> load_run_plan(const std::string& file, bool rebase);

}  // namespace steploom
