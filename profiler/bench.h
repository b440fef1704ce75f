// What every measurement of collectives stands on: the options, the peers, and this rank's device
// memory, streams and communicators.
#pragma once

#include <nccl.h>

#include <array>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "profiler/collectives.h"
#include "profiler/json_lines.h"
#include "profiler/kernel_trace.h"
#include "profiler/measure_collectives.h"
#include "profiler/peers.h"
#include "profiler/side_kernels.h"

namespace steploom {

// CTAs asked for: minCTAs = maxCTAs of one communicator each.
inline constexpr std::array<int, 6> kAsked{1, 2, 4, 8, 16, 32};
// Communicators of the second collective of a pair.
inline constexpr std::array<int, 2> kAskedSecond{4, 16};
// A collective that would take longer than this is skipped and marked.
inline constexpr double kLongestShotUs = 50'000;

inline constexpr std::int64_t kPoolBytes = std::int64_t{1} << 30;
inline constexpr int kWhole = -1;

// One collective on one communicator, as the trace saw it.
struct Traced {
  int grid = 0;          // observed
  double kernel_us = 0;  // from the last member's start to the last member's end, median
  int shots = 0;
};

struct Bench {
  const MeasureOptions& options;
  Peers& peers;
  JsonLines* lines = nullptr;  // of rank 0 alone
  int device = 0;
  cudaStream_t stream{};  // collectives
  cudaStream_t urgent{};  // collectives, highest priority
  cudaStream_t side{};    // the kernel beside, the second collective
  cudaStream_t blocker{};
  std::byte* send = nullptr;  // pools of kPoolBytes and a guard
  std::byte* receive = nullptr;
  SideKernels kernels;
  std::vector<SideKernel> side_kernels;  // those that are measured
  std::vector<ncclComm_t> comms;         // by kAsked
  std::vector<ncclComm_t> second_comms;  // by kAskedSecond

  int rank() const { return peers.rank(); }
  int ranks() const { return peers.ranks(); }
  bool first() const { return peers.first(); }
  void write(const JsonLine& line) {
    if (lines != nullptr) lines->write(line);
  }
  bool out_of_time() { return peers.most(peers.seconds()) > options.budget_seconds; }  // agreed
  // The shot-th of a sequence in `half` of the pools (both: kWhole): consecutive shots use
  // different places, as far as there is room.
  CollectiveCall call(std::int64_t bytes, int shot, int half = kWhole) const;
  // Wrong elements over all ranks of one checked shot into poisoned memory.
  std::int64_t wrong_after_shot(const NcclCollective& collective, std::int64_t bytes,
                                ncclComm_t comm);
};

// 1 KiB to 1 GiB, doubling, and by √2 from 64 KiB to 64 MiB (to whole KiB).
std::vector<std::int64_t> sweep_sizes(int every);

// The collective kernels of all ranks since the last call, by rank; at rank 0. Waits for all ranks.
std::vector<std::vector<KernelRun>> gather_trace(Bench& bench);

// How well the ranks' clocks agree: small all-reduces end at the same time, within their own few
// microseconds. Ends the run if one ended before another rank had started.
struct ClockCheck {
  int shots = 0;
  double ends_differ_us = 0;  // last less first, median; at rank 0
};
ClockCheck check_clocks(Bench& bench);

// Traces some shots; the same on every rank.
Traced trace_collective(Bench& bench, const NcclCollective& collective, std::int64_t bytes,
                        ncclComm_t comm, int shots);

// One point of the sweep: settings whose grids are equal are one.
struct SweepPoint {
  const NcclCollective* collective = nullptr;
  std::int64_t bytes = 0;
  std::vector<int> asked;  // CTAs
  std::size_t comm = 0;    // the first of them
  Traced traced;
  double too_long_us = 0;  // > 0: skipped, a shot is predicted to take so long
};

// Communicators with different observed grids, by collective and bytes, for the interference
// tables.
struct CtaSetting {
  ncclComm_t comm{};
  int grid = 0;
  double kernel_us = 0;
};
using Settings = std::map<std::pair<std::string, std::int64_t>, std::vector<CtaSetting>>;

// The measurements; each is run by all ranks at once. The first three need the trace. Of listed
// points only settings are kept whose traced time is near the fastest's.
std::vector<SweepPoint> trace_sweep(Bench& bench);
Settings trace_settings(Bench& bench, std::span<const std::int64_t> sizes,
                        std::span<const ncclComm_t> comms);
void measure_admission(Bench& bench, const Settings& settings);
void measure_sweep(Bench& bench, const std::vector<SweepPoint>& points);
void measure_share(Bench& bench);
void measure_beside(Bench& bench, const Settings& settings);
void measure_pairs(Bench& bench, const Settings& settings, const Settings& seconds);
void measure_copies(Bench& bench);

}  // namespace steploom
