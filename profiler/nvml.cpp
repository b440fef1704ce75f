#include "profiler/nvml.h"

#include <dlfcn.h>

#include <array>

namespace steploom {
namespace {

// NVML's own names and values (nvml.h).
constexpr int kSuccess = 0;
constexpr int kClockSm = 1;
constexpr int kClockMemory = 2;
constexpr unsigned kPowerInstant = 186;  // NVML_FI_DEV_POWER_INSTANT, milliwatts
constexpr int kUnsignedInt = 1;          // NVML_VALUE_TYPE_UNSIGNED_INT

struct FieldValue {
  unsigned field;
  unsigned scope;
  long long timestamp;
  long long latency_us;
  int type;
  int result;
  union {
    double real;
    unsigned unsigned_int;
    unsigned long long unsigned_long_long;
  } value;
};

template <class Function>
Function* find(void* library, const char* name) {
  return library == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library, name));
}

}  // namespace

Nvml::Nvml(const std::string& pci_bus_id) : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW)) {
  const auto init = find<int()>(library_, "nvmlInit_v2");
  const auto by_pci = find<int(const char*, void**)>(library_, "nvmlDeviceGetHandleByPciBusId_v2");
  if (init == nullptr || by_pci == nullptr || init() != kSuccess) return;
  if (by_pci(pci_bus_id.c_str(), &device_) != kSuccess) device_ = nullptr;
}

Nvml::~Nvml() {
  if (const auto shutdown = find<int()>(library_, "nvmlShutdown")) shutdown();
  if (library_ != nullptr) dlclose(library_);
}

double Nvml::clock(const char* call, int type) const {
  const auto get = find<int(void*, int, unsigned*)>(library_, call);
  unsigned mhz = 0;
  if (device_ == nullptr || get == nullptr || get(device_, type, &mhz) != kSuccess) return 0;
  return mhz;
}

double Nvml::sm_mhz() const {
  return clock("nvmlDeviceGetClockInfo", kClockSm);
}
double Nvml::most_sm_mhz() const {
  return clock("nvmlDeviceGetMaxClockInfo", kClockSm);
}
double Nvml::memory_mhz() const {
  return clock("nvmlDeviceGetClockInfo", kClockMemory);
}

double Nvml::watts() const {
  const auto get = find<int(void*, int, FieldValue*)>(library_, "nvmlDeviceGetFieldValues");
  FieldValue power{};
  power.field = kPowerInstant;
  if (device_ == nullptr || get == nullptr || get(device_, 1, &power) != kSuccess) return 0;
  if (power.result != kSuccess || power.type != kUnsignedInt) return 0;
  return power.value.unsigned_int * 1e-3;
}

std::string Nvml::driver() const {
  const auto get = find<int(char*, unsigned)>(library_, "nvmlSystemGetDriverVersion");
  std::array<char, 96> text{};
  if (get == nullptr || get(text.data(), static_cast<unsigned>(text.size())) != kSuccess) return "";
  return text.data();
}

}  // namespace steploom
