// Which kernels ran, on how many blocks, from when to when: CUPTI's activity records.
//
// NCCL does not say on how many channels it ran a collective; the kernel's gridX does, and that is
// the axis of all our tables. Times are nanoseconds since start_trace, by CUPTI's clock: one for
// all devices and the host. Tracing is switched off for loops whose time counts.
#pragma once

#include <cstdint>
#include <vector>

namespace steploom {

struct KernelRun {
  int device = 0;
  int grid = 0;             // blocks along x
  bool collective = false;  // one of NCCL's kernels
  std::int64_t start_ns = 0;
  std::int64_t end_ns = 0;
};

void start_trace();
// Kernels that ended since the last call, by start. Call when all devices are idle.
std::vector<KernelRun> take_trace();
// Ends tracing and detaches CUPTI from the process.
void stop_trace();
std::int64_t trace_clock_ns();

}  // namespace steploom
