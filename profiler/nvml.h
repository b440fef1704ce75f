// Clock and power of the card through NVML, opened at run time: no header and no library at build.
#pragma once

#include <string>

namespace steploom {

// Every reading is 0 or empty where NVML cannot say.
class Nvml {
 public:
  explicit Nvml(const std::string& pci_bus_id);  // never throws for want of NVML
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  double sm_mhz() const;
  double most_sm_mhz() const;
  double memory_mhz() const;
  double watts() const;  // at this moment, not NVML's average over the last second
  std::string driver() const;

 private:
  double clock(const char* call, int type) const;
  void* library_ = nullptr;
  void* device_ = nullptr;
};

}  // namespace steploom
