// What lies between kernels: gaps on the device, host time of the executor's calls, and the memory
// that NCCL takes. One process a GPU, all of one host; docs/measured.md says how.
//
// Gaps. Chains of links that wait for each other are enqueued behind a kernel that spins, so that
// the host is never what they wait for; a link's time is (T(2n) − T(n))/n by CUDA events, so that
// what begins and ends a chain drops out. The same kernels in one CUDA graph say what a profile's
// durations hold (measure.h). Streams, events and launches are those of CudaKernels: what the
// executor does is what is measured. CUPTI's intervals of the same chains are taken in runs of
// their own, and say where in a link the gap lies.
#pragma once

#include <string>
#include <vector>

#include "profiler/json_lines.h"
#include "profiler/peers.h"

namespace steploom {

struct GapOptions {
  std::string fabric;              // "nvlink", "host" or "sockets"
  std::string out;                 // the file to write
  std::vector<std::string> parts;  // of memory, gaps, host
};

// As measure_collectives(): all ranks call it once each, rank 0 writes.
int measure_gaps(const GapOptions& options, const std::string& command, Peers& peers);

// NCCL's device memory: a line for every communicator after it was made and after the first
// collectives of each kind on it (bytes taken since the line before, the largest over the ranks).
// The first communicator loads the library's kernels; the second of the same CTA count says what
// of that is spent once.
void measure_communicators(Peers& peers, JsonLines* lines);

}  // namespace steploom
