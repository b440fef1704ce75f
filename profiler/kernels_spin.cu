// A kernel that does nothing for a given time: holds a stream back.
#include <algorithm>

#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

constexpr double kMostMs = 5000;  // of one kernel

__device__ std::uint64_t nanoseconds() {
  std::uint64_t ns;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns));
  return ns;
}

__global__ void spin_kernel(std::uint64_t ns) {
  const std::uint64_t start = nanoseconds();
  while (nanoseconds() - start < ns) __nanosleep(100);
}

}  // namespace

void spin(double ms, Stream stream) {
  const double bounded = std::clamp(ms, 0.0, kMostMs);
  spin_kernel<<<1, 1, 0, stream>>>(static_cast<std::uint64_t>(bounded * 1e6));
  check_launch("spin");
}

}  // namespace steploom::kernels
