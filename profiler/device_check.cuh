// Return codes of CUDA into exceptions; for .cu files only.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "profiler/device.h"

namespace steploom {

inline void check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  const std::string message = std::string(what) + ": " + cudaGetErrorString(code);
  cudaGetLastError();  // clears what can be cleared
  if (code == cudaErrorMemoryAllocation) throw OutOfDeviceMemory(message);
  throw DeviceError(message);
}

// After a kernel launch.
inline void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

}  // namespace steploom
