// Binding: from a Program to what one rank executes.
//
// Every operator's kind, phase and operands (models/operands.h) pick one kernel call; its shapes
// come from its Work and must fill its tensors exactly. Nothing is guessed: what has no kernel is
// refused with the operator's name. Routing is real, with a fixed capacity of tokens·top_k/experts
// rows for each expert and source rank (capacity factor 1), so shapes are those of the plan.
//
// Ranks of the Program must be unfolded (planner/lower.h), its runtime one with complete operands.
#pragma once

#include "models/layout.h"
#include "models/model_spec.h"
#include "models/runtime.h"
#include "models/workload.h"
#include "profiler/execution.h"
#include "sim/program.h"

namespace steploom {

// References must outlive the call.
struct BindInput {
  const ModelSpec& model;
  const Workload& work;
  const Layout& layout;
  const Runtime& runtime;
  const Program& program;  // finalized
};

struct BindOptions {
  TapeMode tape = TapeMode::off;
  Adam adam;  // its rates; pieces are ignored
};

// Throws Error: what cannot be executed, and why.
Execution bind(const BindInput& input, int rank, const BindOptions& options = {});

}  // namespace steploom
