#include "profiler/measure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>

#include "profiler/events.cuh"

namespace steploom {
namespace {

constexpr double kReplayUs = 2000;
constexpr int kMostShots = 2000;  // in one replay
constexpr int kLeastReplays = 10;
constexpr int kMostReplays = 1000;

// Two shots after a first one that was not timed: the better counts.
double estimate_us(const Trial& trial, Stream stream) {
  Event start;
  Event middle;
  Event end;
  start.record(stream);
  trial.launch(1 % trial.sets, stream);
  middle.record(stream);
  trial.launch(2 % trial.sets, stream);
  end.record(stream);
  end.wait();
  return std::min(middle.microseconds_since(start), end.microseconds_since(middle));
}

}  // namespace

MeasuringStream::MeasuringStream() {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
}

MeasuringStream::~MeasuringStream() {
  cudaStreamDestroy(stream_);
}

MeasuredStats stats_of(std::vector<double>& samples) {
  MeasuredStats stats;
  if (samples.empty()) return stats;
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double share) {
    return samples[static_cast<std::size_t>(
        std::lround(share * static_cast<double>(samples.size() - 1)))];
  };
  stats.q1_us = at(0.25);
  stats.median_us = at(0.5);
  stats.q3_us = at(0.75);
  stats.samples = static_cast<std::int64_t>(samples.size());
  return stats;
}

Timing measure(const Trial& trial, const Nvml& nvml, Stream stream) {
  Timing timing;
  const std::string fault = trial.prove(stream);
  if (!fault.empty()) {
    timing.note = "wrong: " + fault;
    return timing;
  }
  const double shot_us = estimate_us(trial, stream);
  if (shot_us > kMostShotMs * 1e3) {
    timing.note = "skipped: " + std::to_string(static_cast<int>(shot_us / 1e3)) + " ms a shot";
    timing.too_long = true;
    return timing;
  }
  const int wanted = static_cast<int>(std::lround(kReplayUs / shot_us));
  const int shots = std::clamp(std::max(wanted, trial.sets), 1, kMostShots);
  const auto all_shots = [&] {
    for (int shot = 0; shot < shots; ++shot) trial.launch(shot % trial.sets, stream);
  };
  std::optional<Graph> graph;
  if (trial.in_graph) graph.emplace(stream, all_shots);
  const auto replay = [&] {
    if (graph) {
      graph->launch(stream);
    } else {
      all_shots();
    }
  };
  Event start;
  Event end;
  replay();
  start.record(stream);
  replay();
  end.record(stream);
  end.wait();
  const double replay_us = std::max(end.microseconds_since(start), 1.0);
  const int replays = std::clamp(static_cast<int>(std::ceil(trial.sustained_ms * 1e3 / replay_us)),
                                 kLeastReplays, kMostReplays);
  std::vector<std::unique_ptr<Event>> marks;
  for (int i = 0; i <= replays; ++i) marks.push_back(std::make_unique<Event>());
  marks[0]->record(stream);
  for (int i = 1; i <= replays; ++i) {
    replay();
    marks[static_cast<std::size_t>(i)]->record(stream);
  }
  marks[static_cast<std::size_t>(replays * 3 / 4)]->wait();
  const double mhz = nvml.sm_mhz();
  const double watts = nvml.watts();
  marks.back()->wait();
  check(cudaStreamSynchronize(stream), "after timing");
  std::vector<double> samples;
  for (std::size_t i = marks.size() / 2 + 1; i < marks.size(); ++i) {
    samples.push_back(marks[i]->microseconds_since(*marks[i - 1]) / shots);
  }
  timing.stats = stats_of(samples);
  timing.stats.sm_mhz = mhz;
  timing.stats.watts = watts;
  if (!trial.in_graph) timing.note = "launched one by one, not from a graph";
  return timing;
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

DeviceFacts device_facts() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  std::array<char, 32> pci{};
  check(cudaDeviceGetPCIBusId(pci.data(), static_cast<int>(pci.size()), device), "PCI bus id");
  DeviceFacts facts;
  facts.name = properties.name;
  facts.pci = pci.data();
  check(cudaRuntimeGetVersion(&facts.runtime), "cudaRuntimeGetVersion");
  facts.sms = properties.multiProcessorCount;
  facts.memory = static_cast<Bytes>(properties.totalGlobalMem);
  facts.l2 = properties.l2CacheSize;
  return facts;
}

}  // namespace steploom
