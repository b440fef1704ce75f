// The GPU at hand, as the profiler sees it: what it is, and how long an ask takes on it.
//
// Opened, it holds a stream, cuBLAS, cuDNN once it is asked for, and NVML on the current device. In
// builds with CUDA only.
#pragma once

#include <string>
#include <vector>

#include "profiler/measure.h"
#include "profiler/trial.h"

namespace steploom {

class Gpu {
 public:
  Gpu();  // throws Error where there is no device or no driver

  // The header of a file of points measured here and now by `command`.
  MeasuredOn describe(std::string command) const;

  // Never throws for what one kernel does: a fault, a wrong result or a want of memory is in the
  // note, which then begins with "failed", "wrong" or "skipped".
  Timing time(const Ask& ask) const;

  std::vector<MeasuredOther> launches_and_copies() const;

 private:
  DeviceFacts facts_;
  Nvml nvml_;
  Libraries libraries_;
  MeasuringStream stream_;
};

}  // namespace steploom
