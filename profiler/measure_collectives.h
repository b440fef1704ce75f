// Measuring collectives and interference on the GPUs of one host, one process a GPU.
// docs/interference.md says what is measured and how.
#pragma once

#include <string>
#include <vector>

#include "profiler/peers.h"

namespace steploom {

inline constexpr double kMeasurePatienceSeconds = 30;

struct MeasureOptions {
  std::string fabric;              // "nvlink", "host" or "sockets"
  std::string out;                 // the file to write
  std::vector<std::string> parts;  // of sweep, admission, share, beside, pairs
  double budget_seconds = 0;
  int every = 1;  // every n-th size only: for a quick trial
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
