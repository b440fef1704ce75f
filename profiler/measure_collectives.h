// Measuring collectives and interference on the GPUs of one host, one process a GPU.
// docs/interference.md says what is measured and how.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/collective_asks.h"
#include "profiler/peers.h"

namespace steploom {

inline constexpr double kMeasurePatienceSeconds = 30;

// What can be measured: the sweep of collectives alone, waits behind kernels, kernels on part of
// the SMs, kernels beside collectives, two collectives, and copies beside kernels.
inline constexpr std::array<std::string_view, 6> kMeasureParts{"sweep",  "admission", "share",
                                                               "beside", "pairs",     "copies"};

struct MeasureOptions {
  std::string fabric;  // "nvlink", "host" or "sockets"
  std::string out;     // the file to write
  std::vector<std::string> parts{kMeasureParts.begin(), kMeasureParts.end()};
  std::vector<std::string> kernels;  // of kSideKernels; empty: all that this build has
  double budget_seconds = 0;
  int every = 1;                      // every n-th size only: for a quick trial
  std::vector<CollectiveAsk> points;  // the sweep's own; empty: all collectives at all sizes
};

// Sets NCCL's environment for options.fabric: before this process, or any that it forks, uses NCCL.
void set_fabric(const std::string& fabric);

// GPUs that this process may use. Asks in a process of its own, so that a fork can follow. Ends the
// process, with the reason, if CUDA does not work.
int count_gpus();

// All ranks of the run call it, once each; each takes the GPU of its local rank, or the only one
// that it sees. Rank 0 writes the lines; `command` goes into their header. Returns the exit status.
int measure_collectives(const MeasureOptions& options, const std::string& command, Peers& peers);

}  // namespace steploom
