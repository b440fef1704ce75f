#include "profiler/gpu.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <utility>

#include "models/error.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

constexpr double kHotMs = 200;
constexpr double kOtherMs = 60;
constexpr const char* kMethod =
    "Each point: results poisoned, computed once, checked against double precision on sampled rows "
    "or elements; then random data in sets of tensors that together exceed 2.5 times the L2 cache, "
    "used in turn; shots captured in a CUDA graph of about 2 ms (one by one where the note says "
    "so), replayed without pause for at least 200 ms (products, attention) or 60 ms (others), the "
    "first half "
    "of the replays dropped; a sample is the mean over a replay, the gap between kernels "
    "included; sm_mhz and watts from NVML three quarters through, and watts lags by about 0.1 s: "
    "short points show their predecessors in it";

DeviceFacts facts_of_device() {
  if (device_count() == 0)
    throw Error({"profile", "", "a CUDA device and its driver", "none on this machine", ""});
  return device_facts();
}

// 91900 is 9.19.0, as cuDNN and cuBLAS count.
std::string dotted(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

}  // namespace

Gpu::Gpu() : facts_(facts_of_device()), nvml_(facts_.pci) {}

MeasuredOn Gpu::describe(std::string command) const {
  MeasuredOn on;
  on.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  on.command = std::move(command);
  on.gpu = facts_.name;
  on.driver = nvml_.driver();
  on.cuda_runtime = fmt::format("{}.{}", facts_.runtime / 1000, facts_.runtime % 1000 / 10);
  on.cublas = dotted(Blas::version());
  if (Dnn::version() > 0) on.cudnn = dotted(Dnn::version());
  on.sms = facts_.sms;
  on.memory = facts_.memory;
  on.l2 = facts_.l2;
  on.memory_mhz = nvml_.memory_mhz();
  on.most_sm_mhz = nvml_.most_sm_mhz();
  on.method = kMethod;
  return on;
}

Timing Gpu::time(const Ask& ask) const {
  Timing timing;
  try {
    Trial trial = make_trial(ask, libraries_, facts_.l2 * 5 / 2);
    trial.sustained_ms = is_hot(ask) ? kHotMs : kOtherMs;
    timing = measure(trial, nvml_, stream_.get());
  } catch (const OutOfDeviceMemory& error) {
    timing.note = std::string("skipped: ") + error.what();
  } catch (const DeviceError& error) {
    timing.note = std::string("failed: ") + error.what();
  }
  return timing;
}

std::vector<MeasuredOther> Gpu::launches_and_copies() const {
  std::vector<MeasuredOther> all = measure_launches(stream_.get());
  for (MeasuredOther& copy : measure_copies(nvml_, stream_.get())) all.push_back(std::move(copy));
  return all;
}

}  // namespace steploom
