#include "profiler/run_step.h"

namespace steploom {

void issue_step(KernelSet& kernels, const Execution& execution, const StepHooks& hooks) {
  for (const Call& call : execution.calls) {
    for (const std::uint32_t event : call.waits) kernels.wait(event, call.stream);
    if (hooks.before) hooks.before(call);
    if (hooks.poison) {
      for (const TensorRef& t : call.begins) kernels.poison(t, call.stream);
    }
    if (hooks.poisoned) hooks.poisoned(call);
    launch(kernels, call.kernel, call.stream);
    if (hooks.after) hooks.after(call);
    if (call.event >= 0) kernels.record(static_cast<std::uint32_t>(call.event), call.stream);
    if (call.host_waits) kernels.wait_for_all();
  }
}

}  // namespace steploom
