// One step of one rank, issued: the walk that every backend with real streams takes.
//
// For each call in issue order: wait for its events, launch, record its event. The hooks see each
// call before and after it is launched, on the host; `poison` fills tensors with NaNs where their
// life begins, so that what is read before it is written shows.
#pragma once

#include <functional>

#include "profiler/execution.h"
#include "profiler/kernel_set.h"

namespace steploom {

struct StepHooks {
  bool poison = false;
  std::function<void(const Call&)> before;
  std::function<void(const Call&)> poisoned;  // between its poison and its launch
  std::function<void(const Call&)> after;
};

void issue_step(KernelSet& kernels, const Execution& execution, const StepHooks& hooks = {});

}  // namespace steploom
