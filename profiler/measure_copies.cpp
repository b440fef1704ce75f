// Copies: which need SMs, and what they and kernels lose beside each other.
//
// A copy that is not done while a blocker holds every SM needs some. The reverse does not hold: the
// blocker holds the shared memory alone, and CUDA's copy on the device is a kernel that needs none,
// so the fit looks at what a copy does to `spin`. Side by side are two saturated loops, as with
// collectives.

#include <chrono>

#include "profiler/bench.h"
#include "profiler/measure_check.h"
#include "profiler/side_copies.h"
#include "profiler/stamped_loop.h"

namespace steploom {
namespace {

constexpr int kShots = 50;
constexpr auto kPatience = std::chrono::milliseconds(500);  // for kShots copies of some 0.1 to 2 ms

// Microseconds a copy while no SM is free; 0: it did not end.
double time_without_sms(Bench& bench, const SideCopies& copies, const SideCopy& copy) {
  cudaEvent_t begin{}, end{};
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  take_sms(bench.kernels, bench.kernels.sms, bench.blocker);
  check(cudaEventRecord(begin, bench.stream));
  for (int shot = 0; shot < kShots; ++shot) copies.launch(copy, bench.stream);
  check(cudaEventRecord(end, bench.stream));
  const auto until = std::chrono::steady_clock::now() + kPatience;
  cudaError_t state = cudaErrorNotReady;
  while (state == cudaErrorNotReady && std::chrono::steady_clock::now() < until) {
    state = cudaEventQuery(end);
  }
  const bool done = state == cudaSuccess;
  if (!done && state != cudaErrorNotReady) check(state);
  release_sms(bench.kernels, bench.blocker, bench.side);
  check(cudaStreamSynchronize(bench.stream));
  float ms = 0;
  check(cudaEventElapsedTime(&ms, begin, end));
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
  return done ? 1000.0 * static_cast<double>(ms) / kShots : 0;
}

// Whole words of the last copy, the most over the ranks.
std::int64_t wrong_words(Bench& bench, const SideCopies& copies, const SideCopy& copy) {
  const std::int64_t mine = copies.count_wrong(copy, bench.stream);
  return static_cast<std::int64_t>(bench.peers.most(static_cast<double>(mine)));
}

}  // namespace

void measure_copies(Bench& bench) {
  bench.peers.doing("making room for copies");
  const SideCopies copies(bench.stream);
  const double ms = loop_ms(0);
  for (const SideCopy& copy : side_copies()) {
    if (bench.out_of_time()) return;
    bench.peers.doing(copy.name);
    const auto shot = [&](int) { copies.launch(copy, bench.stream); };
    const Loop copying = loop_for(bench.stream, copy.least_us, ms, shot);
    copies.poison(copy, bench.stream);
    const Spread alone = spread_of(run_steady(bench, copying, kLeadMs));
    const std::int64_t wrong = wrong_words(bench, copies, copy);
    bench.peers.meet();
    const double mine = time_without_sms(bench, copies, copy);
    const bool needs_sms = bench.peers.most(mine == 0 ? 1 : 0) > 0;
    const double without_us = bench.peers.most(mine);
    bench.write(JsonLine()
                    .add("table", "copy")
                    .add("copy", copy.name)
                    .add("bytes", static_cast<long long>(copy.bytes))
                    .add("us", alone)
                    .add("samples", alone.samples)
                    .add("needs_sms", needs_sms)
                    .add("us_without_sms", needs_sms ? 0 : without_us)
                    .add("wrong", static_cast<long long>(wrong)));
    if (wrong != 0) fail(std::string("wrong results of ") + copy.name);
    for (const SideKernel& kernel : bench.side_kernels) {
      if (bench.out_of_time()) return;
      bench.peers.doing(std::string(kernel.name) + " beside " + copy.name);
      const Loop computing = loop_of(bench, kernel, kernel.least_us, ms);
      const Spread kernel_alone = spread_of(run_steady(bench, computing, kLeadMs));
      copies.poison(copy, bench.stream);
      const SideBySide both = run_side_by_side(bench, copying, computing, kLeadMs);
      const std::int64_t wrong_beside = wrong_words(bench, copies, copy);
      bench.write(JsonLine()
                      .add("table", "copy_beside")
                      .add("kernel", kernel.name)
                      .add("copy", copy.name)
                      .add("bytes", static_cast<long long>(copy.bytes))
                      .add("kernel_us", spread_of(both.second_us))
                      .add("kernel_alone_us", kernel_alone)
                      .add("copy_us", spread_of(both.first_us))
                      .add("copy_alone_us", alone)
                      .add("window_ms", both.window_ms)
                      .add("samples", kWindows)
                      .add("wrong", static_cast<long long>(wrong_beside)));
      if (wrong_beside != 0) fail(std::string("wrong results of ") + copy.name);
    }
  }
}

}  // namespace steploom
