// Running plans on the GPUs at hand: one process a rank, all of them here together.
//
// Every plan is bound, set up once and kept on the device; their blocks of back-to-back steps
// alternate, so that what drifts (clocks, temperature) drifts for all alike. A block's time is from
// the end of everything before to the end of its last step by CUDA events, the longest over the
// ranks; a step is the block over its steps. The repeatability r is half the range of the blocks
// over their median.
//
// Three more things are looked at apart from the blocks: the host time to issue one step with
// nothing before it on the device; the operators' times by CUPTI, in steps of their own whose
// slow-down is kept beside them; and, before all, the gradients of the first step (verify_step.h).
// Times in microseconds, memory in bytes.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "profiler/bind.h"
#include "profiler/peers.h"
#include "profiler/spread.h"
#include "sim/engine.h"

namespace steploom {

// Of the process's machine, without making it use a GPU: 0 where there is none, or no driver, or
// this program was built without CUDA and NCCL.
int gpus_here();
// Was this program built with what runs on GPUs?
bool can_run_on_gpus();

struct GpuRunOptions {
  int blocks = 5;
  int steps = 30;         // of a block
  int warm_up = 3;        // steps before the first block
  double seconds = 0;     // for all blocks of one plan: they get shorter, not fewer; 0: no bound
  bool graph = false;     // steps are replays of a CUDA graph
  bool poison = false;    // NaNs into every tensor before its first write
  int traced_steps = 0;   // steps under CUPTI; the last one's times are kept
  double patience = 120;  // seconds
};

struct MeasuredMemory {
  Bytes peak = 0;  // of the device, context included, at the fullest
  Bytes context = 0, arena = 0, parameters = 0, gradients = 0, optimizer = 0, other = 0;
  Bytes workspace = 0, communicators = 0;
  // peak less all of the above: libraries' code and what they keep
  Bytes rest() const {
    return peak - context - arena - parameters - gradients - optimizer - other - workspace -
           communicators;
  }
};

struct MeasuredRun {
  std::vector<double> block_us;  // a step's time, by block
  Spread step_us;
  double repeatability = 0;
  int steps = 0;                      // of a block
  double issue_us = 0;                // host time of a step, the longest over the ranks
  double loss = 0;                    // after the last step, mean over tokens
  std::vector<MeasuredMemory> ranks;  // at rank 0
  double traced_us = 0;               // a step's time while it is traced; 0: not traced
  Replay traced;                      // rank 0: times by operator id; empty: not traced
  std::vector<Picoseconds> issued;    // rank 0: by operator id, when its launch was called
};

// All ranks of the run together; what is measured is complete at rank 0. Throws DeviceError, and
// Error for what cannot be executed.
std::vector<MeasuredRun> run_on_gpus(Peers& peers, std::span<const BindInput> plans,
                                     const GpuRunOptions& options);

}  // namespace steploom
