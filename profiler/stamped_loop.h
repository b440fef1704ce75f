// Stamped loops: launches in a stream with an event after every batch, so that how far the stream
// had come is known at every moment, and two streams that ran side by side can be compared over
// exactly the time in which both were busy, on all ranks.
//
// Between two stamps progress is taken as linear. Two loops are launched by two host threads: a
// full launch queue of one must not hold up the other.
#pragma once

#include <functional>

#include "profiler/bench.h"

namespace steploom {

struct Loop {
  cudaStream_t stream{};
  std::function<void(int shot)> launch;
  int batches = 0;
  int batch = 1;  // launches in one
  int shots() const { return batches * batch; }
};

// Batches of about a quarter of a millisecond, for `window_ms` and two batches more.
Loop loop_for(cudaStream_t stream, double estimate_us, double window_ms,
              std::function<void(int)> launch);

// Microseconds a launch between every two stamps, the largest over the ranks. The first batch, with
// which the ranks fall in step, is not counted.
std::vector<double> run_alone(Bench& bench, const Loop& loop);

// Steady loops: the first `lead_ms` in which all are busy are left out (the clock falls as the card
// takes up load), the rest is cut into kWindows equal windows, one sample each. Every sample is the
// largest over the ranks, in microseconds a launch.
inline constexpr int kWindows = 5;

struct SideBySide {
  std::vector<double> first_us, second_us;
  double window_ms = 0;  // length of a window
};
std::vector<double> run_steady(Bench& bench, const Loop& loop, double lead_ms);
SideBySide run_side_by_side(Bench& bench, const Loop& first, const Loop& second, double lead_ms);

// Of a kernel beside others (measure_interference.cpp): launches for `ms`, a launch of `us`.
inline constexpr double kLeadMs = 75;  // before the first sample: the clock falls under load
Loop loop_of(Bench& bench, const SideKernel& kernel, double us, double ms);
// How long loops have to be, beside a collective of so many microseconds.
double loop_ms(double collective_us);

}  // namespace steploom
