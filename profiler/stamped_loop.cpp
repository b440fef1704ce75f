#include "profiler/stamped_loop.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "profiler/measure_check.h"

namespace steploom {
namespace {

constexpr double kBatchUs = 250;
constexpr int kMostBatches = 1000;

class Events {
 public:
  explicit Events(std::size_t count) : events_(count) {
    for (cudaEvent_t& event : events_) check(cudaEventCreate(&event));
  }
  ~Events() {
    for (cudaEvent_t event : events_) check(cudaEventDestroy(event));
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  cudaEvent_t operator[](std::size_t i) const { return events_[i]; }

 private:
  std::vector<cudaEvent_t> events_;
};

void run(const Loop& loop, const Events& events) {
  int shot = 0;
  for (int batch = 0; batch < loop.batches; ++batch) {
    for (int i = 0; i < loop.batch; ++i) loop.launch(shot++);
    check(cudaEventRecord(events[static_cast<std::size_t>(batch)], loop.stream));
  }
  check(cudaStreamSynchronize(loop.stream));
}

// Milliseconds after `base` at which each batch was done.
std::vector<double> stamps(const Loop& loop, const Events& events, cudaEvent_t base) {
  std::vector<double> all;
  for (int batch = 0; batch < loop.batches; ++batch) {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, base, events[static_cast<std::size_t>(batch)]));
    all.push_back(static_cast<double>(ms));
  }
  return all;
}

// Batches done at a moment between the first and the last stamp.
double progress(const std::vector<double>& at, double moment) {
  const auto above = std::upper_bound(at.begin(), at.end() - 1, moment);
  const auto i = static_cast<std::size_t>(above - at.begin());
  if (i == 0) return 0;
  return static_cast<double>(i - 1) + (moment - at[i - 1]) / (at[i] - at[i - 1]);
}

double us_per_launch(const Loop& loop, const std::vector<double>& at, double from, double to) {
  return 1000 * (to - from) / ((progress(at, to) - progress(at, from)) * loop.batch);
}

// The windows in which loops were busy on all ranks.
struct Windows {
  double from, length;  // ms after each rank's own base event, recorded as the ranks met

  Windows(Bench& bench, double first, double last, double lead_ms) {
    const double begin = bench.peers.most(first);
    const double end = -bench.peers.most(-last);
    if (!(begin < end)) fail("loops side by side never ran at the same time");
    from = begin + std::min(lead_ms, (end - begin) / 2);
    length = (end - from) / kWindows;
  }
  std::vector<double> samples(Bench& bench, const Loop& loop, const std::vector<double>& at) const {
    std::vector<double> us;
    for (int i = 0; i < kWindows; ++i) {
      const double begin = from + i * length;
      us.push_back(bench.peers.most(us_per_launch(loop, at, begin, begin + length)));
    }
    return us;
  }
};

}  // namespace

Loop loop_for(cudaStream_t stream, double estimate_us, double window_ms,
              std::function<void(int)> launch) {
  Loop loop;
  loop.stream = stream;
  loop.launch = std::move(launch);
  loop.batch = std::max(1, static_cast<int>(std::ceil(kBatchUs / estimate_us)));
  const double batches = std::ceil(1000 * window_ms / (estimate_us * loop.batch)) + 2;
  loop.batches = static_cast<int>(std::clamp(batches, 5.0, static_cast<double>(kMostBatches)));
  return loop;
}

std::vector<double> run_alone(Bench& bench, const Loop& loop) {
  const Events events(static_cast<std::size_t>(loop.batches));
  bench.peers.meet();
  run(loop, events);
  const std::vector<double> at = stamps(loop, events, events[0]);
  std::vector<double> us;
  for (std::size_t i = 1; i < at.size(); ++i) {
    us.push_back(bench.peers.most(1000 * (at[i] - at[i - 1]) / loop.batch));
  }
  return us;
}

std::vector<double> run_steady(Bench& bench, const Loop& loop, double lead_ms) {
  const Events events(static_cast<std::size_t>(loop.batches));
  const Events base(1);
  bench.peers.meet();
  check(cudaEventRecord(base[0], loop.stream));
  run(loop, events);
  const std::vector<double> at = stamps(loop, events, base[0]);
  const Windows windows(bench, at.front(), at.back(), lead_ms);
  return windows.samples(bench, loop, at);
}

SideBySide run_side_by_side(Bench& bench, const Loop& first, const Loop& second, double lead_ms) {
  const Events first_events(static_cast<std::size_t>(first.batches));
  const Events second_events(static_cast<std::size_t>(second.batches));
  const Events base(1);
  bench.peers.meet();
  check(cudaEventRecord(base[0], first.stream));
  {
    std::jthread other([&] {
      check(cudaSetDevice(bench.device));
      run(second, second_events);
    });
    run(first, first_events);
  }
  const std::vector<double> a = stamps(first, first_events, base[0]);
  const std::vector<double> b = stamps(second, second_events, base[0]);
  const Windows windows(bench, std::max(a.front(), b.front()), std::min(a.back(), b.back()),
                        lead_ms);
  return {windows.samples(bench, first, a), windows.samples(bench, second, b), windows.length};
}

}  // namespace steploom
