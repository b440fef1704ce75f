// Which kernels ran, on how many blocks, from when to when: CUPTI's activity records.
//
// NCCL does not say on how many channels it ran a collective; the kernel's gridX does, and that is
// the axis of all our tables. Every process traces its own GPU. Times are nanoseconds after a
// moment that the caller chooses, by the host's CLOCK_REALTIME, to which CUPTI converts the GPUs'
// times: one clock for all processes of a host. Tracing is switched off for loops whose time
// counts.
#pragma once

#include <cstdint>
#include <vector>

namespace steploom {

struct KernelRun {
  int grid = 0;             // blocks along x
  bool collective = false;  // one of NCCL's kernels
  std::int64_t start_ns = 0;
  std::int64_t end_ns = 0;
  std::uint64_t tag = 0;       // of whoever launched it; 0: none, or tags are off
  std::int64_t issued_ns = 0;  // when its launch was called; 0: tags are off
};

// Tags: fills and copies count as kernels too, and every call of CUDA is recorded, which costs
// more.
enum class TraceTags { off, on };

void start_trace(std::int64_t origin_ns, TraceTags tags = TraceTags::off);
// Kernels that ended since the last call, by start. Call when the device is idle.
std::vector<KernelRun> take_trace();
// Ends tracing and detaches CUPTI from the process.
void stop_trace();
// Launches of this thread between the two belong to `tag`, which is not 0.
void push_tag(std::uint64_t tag);
void pop_tag();
std::int64_t clock_ns();        // of the host
std::int64_t trace_clock_ns();  // after the origin

}  // namespace steploom
