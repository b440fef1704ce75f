// How a kernel is timed: proved right first, then run without pause until the card has settled.
//
// A Trial has several sets of tensors, more than the L2 cache holds together, and its shots go
// through them in turn, so that no shot finds its operands in the cache. The shots are captured in
// a CUDA graph (where the provider allows it) of some 2 ms, and the graph is replayed for at least
// `sustained` milliseconds; every replay is one sample, the first half of them is dropped, because
// the clock falls while the card warms up. A time therefore includes the gap between two kernels in
// a graph, and no launch by the host. A shot of more than
// kMostShotMs is not measured.
#pragma once

#include <functional>
#include <string>

#include "profiler/device.h"
#include "profiler/nvml.h"
#include "profiler/points.h"

namespace steploom {

inline constexpr double kMostShotMs = 50;

struct Trial {
  int sets = 1;
  std::function<void(int set, Stream stream)> launch;
  // Poisons the results, runs set 0 once, and checks them against a plain computation in double
  // precision. Empty if right, else what is wrong.
  std::function<std::string(Stream stream)> prove;
  bool in_graph = true;  // may be captured
  double sustained_ms = 200;
};

// A stream of its own on the current device.
class MeasuringStream {
 public:
  MeasuringStream();
  ~MeasuringStream();
  MeasuringStream(const MeasuringStream&) = delete;
  MeasuringStream& operator=(const MeasuringStream&) = delete;
  Stream get() const { return stream_; }

 private:
  Stream stream_ = nullptr;
};

// Throws DeviceError; OutOfDeviceMemory leaves the device usable.
Timing measure(const Trial& trial, const Nvml& nvml, Stream stream);

// Median and quartiles; reorders the samples.
MeasuredStats stats_of(std::vector<double>& samples_us);

// Launches, waits and copies, one line each.
std::vector<MeasuredOther> measure_launches(Stream stream);
std::vector<MeasuredOther> measure_copies(const Nvml& nvml, Stream stream);

// The current device, for the header; waits for nothing.
struct DeviceFacts {
  std::string name;
  std::string pci;  // bus id
  int runtime = 0;  // 13000
  int sms = 0;
  Bytes memory = 0;
  Bytes l2 = 0;
};
int device_count();  // 0 where there is no driver
DeviceFacts device_facts();

}  // namespace steploom
