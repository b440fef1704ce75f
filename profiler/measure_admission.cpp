// Admission: how long a single collective waits, and how long it then runs, behind kernels that
// hold the GPU.
//
// A train of one kernel class runs; at some moment of its first half millisecond (a different one
// each time) all ranks launch one collective in another stream. The wait is from the last rank's
// call of NCCL to the last member's start; behind nothing it is what a launch takes. The run is
// from the last start to the last end: what is slower than behind nothing is h, free of admission.
// The train lasts three times as long as the collective alone, and 1.5 ms: a collective that is
// slowed more than that outlasts it, and seems faster than it is. The trace is read once for all
// samples: reading it delays the next launch.

#include <chrono>
#include <cmath>

#include "profiler/bench.h"
#include "profiler/kernel_trace.h"
#include "profiler/measure_check.h"

namespace steploom {
namespace {

constexpr int kSamples = 9;
constexpr int kMostKernels = 600;  // of a train: less than a launch queue

void wait_until_started(cudaEvent_t event, double then_us) {
  cudaError_t state = cudaErrorNotReady;
  while ((state = cudaEventQuery(event)) == cudaErrorNotReady) {
  }
  check(state);
  const auto until = std::chrono::steady_clock::now() +
                     std::chrono::nanoseconds(static_cast<std::int64_t>(1000 * then_us));
  while (std::chrono::steady_clock::now() < until) {
  }
}

struct Mode {
  const SideKernel* behind;  // null: nothing
  bool high_priority;
};

// When the last rank called NCCL, in the trace's nanoseconds.
double shoot(Bench& bench, const NcclCollective& collective, std::int64_t bytes,
             const CtaSetting& setting, const Mode& mode, int sample, cudaEvent_t started) {
  bench.peers.meet();
  if (mode.behind != nullptr) {
    const double cover = std::ceil((3 * setting.kernel_us + 1500) / mode.behind->least_us);
    check(cudaEventRecord(started, bench.side));
    for (int i = 0; i < std::min(static_cast<int>(cover), kMostKernels); ++i) {
      mode.behind->launch(bench.kernels, bench.side);
    }
    wait_until_started(started, 50.0 + 60.0 * sample);
  }
  bench.peers.meet();
  const std::int64_t ready = trace_clock_ns();
  cudaStream_t stream = mode.high_priority ? bench.urgent : bench.stream;
  collective.launch(bench.call(bytes, sample), setting.comm, stream);
  check(cudaStreamSynchronize(stream));
  check(cudaStreamSynchronize(bench.side));
  return bench.peers.most(static_cast<double>(ready));
}

struct Samples {
  std::vector<double> wait_us, run_us;
};

Samples admit(Bench& bench, const NcclCollective& collective, std::int64_t bytes,
              const CtaSetting& setting, const Mode& mode, cudaEvent_t started) {
  std::vector<double> ready;
  for (int sample = 0; sample <= kSamples; ++sample) {  // the first one warms up
    ready.push_back(shoot(bench, collective, bytes, setting, mode, sample, started));
  }
  const std::vector<std::vector<KernelRun>> by_rank = gather_trace(bench);
  if (!bench.first()) return {};
  Samples samples;
  for (std::size_t sample = 1; sample < ready.size(); ++sample) {
    std::int64_t start = 0, end = 0;
    for (const std::vector<KernelRun>& mine : by_rank) {
      if (mine.empty()) continue;  // not a member
      if (mine.size() != ready.size()) fail("the trace lost collectives");
      start = std::max(start, mine[sample].start_ns);
      end = std::max(end, mine[sample].end_ns);
    }
    samples.wait_us.push_back(1e-3 * (static_cast<double>(start) - ready[sample]));
    samples.run_us.push_back(1e-3 * static_cast<double>(end - start));
  }
  return samples;
}

}  // namespace

void measure_admission(Bench& bench, const Settings& settings) {
  std::vector<Mode> modes{{nullptr, false}};
  for (const SideKernel& kernel : bench.side_kernels) {
    modes.push_back({&kernel, false});
    modes.push_back({&kernel, true});
  }
  cudaEvent_t started{};
  check(cudaEventCreateWithFlags(&started, cudaEventDisableTiming));
  for (const auto& [what, some] : settings) {
    const auto& [name, bytes] = what;
    for (const CtaSetting& setting : some) {
      for (const Mode& mode : modes) {
        if (bench.out_of_time()) return;
        const char* behind = mode.behind == nullptr ? "nothing" : mode.behind->name;
        bench.peers.doing("admitting " + name + " behind " + behind);
        const Samples samples = admit(bench, collective_named(name), bytes, setting, mode, started);
        bench.write(JsonLine()
                        .add("table", "admission")
                        .add("collective", name)
                        .add("bytes", static_cast<long long>(bytes))
                        .add("grid", setting.grid)
                        .add("behind", behind)
                        .add("priority", mode.high_priority ? "high" : "default")
                        .add("wait_us", spread_of(samples.wait_us))
                        .add("run_us", spread_of(samples.run_us))
                        .add("samples", kSamples));
      }
    }
  }
  check(cudaEventDestroy(started));
}

}  // namespace steploom
