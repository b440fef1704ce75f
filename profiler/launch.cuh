// Grid sizes and argument checks that the kernels share; for .cu files only.
#pragma once

#include <cstdint>
#include <string>

#include "profiler/device_check.cuh"
#include "profiler/vector.cuh"

namespace steploom {

constexpr int kThreads = 256;

// Vectors of eight elements in m rows of width n.
inline std::uint32_t vectors_of(const char* kernel, std::int64_t m, std::int64_t n) {
  if (m <= 0 || n <= 0 || n % kLanes != 0 || m * (n / kLanes) > 0x7FFFFFFF) {
    throw DeviceError(std::string(kernel) + ": no kernel for " + std::to_string(m) + " rows of " +
                      std::to_string(n) + " (a multiple of 8 is needed)");
  }
  return static_cast<std::uint32_t>(m * (n / kLanes));
}

inline std::uint32_t blocks_for(std::uint32_t items, std::uint32_t per_block) {
  return (items + per_block - 1) / per_block;
}

// Streaming multiprocessors of the current device.
inline int sm_count() {
  int device = 0;
  int sms = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device), "SM count");
  return sms;
}

}  // namespace steploom
