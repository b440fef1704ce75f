// 16-byte accesses of eight bf16 or four float, and reductions over a warp or a block.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "profiler/device.h"

namespace steploom {

constexpr int kLanes = 8;  // bf16 in 16 bytes
constexpr int kWarp = 32;

struct Floats {
  float v[kLanes];
};

__device__ inline Floats unpack(const uint4& raw) {
  const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
  Floats f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    f.v[2 * i] = __uint_as_float(words[i] << 16);
    f.v[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000U);
  }
  return f;
}

__device__ inline Floats load(const Bf16* from) {
  return unpack(*reinterpret_cast<const uint4*>(from));
}

__device__ inline void store(Bf16* to, const Floats& f) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(f.v[2 * i], f.v[2 * i + 1]);
    words[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

__device__ inline Floats load(const float* from) {
  const float4 a = reinterpret_cast<const float4*>(from)[0];
  const float4 b = reinterpret_cast<const float4*>(from)[1];
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

__device__ inline void store(float* to, const Floats& f) {
  reinterpret_cast<float4*>(to)[0] = make_float4(f.v[0], f.v[1], f.v[2], f.v[3]);
  reinterpret_cast<float4*>(to)[1] = make_float4(f.v[4], f.v[5], f.v[6], f.v[7]);
}

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFFU, x, step);
  return x;
}

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFU, x, step));
  }
  return x;
}

// Sums of N values over the block, the same in every thread and every run. Whole warps; every
// thread of the block must call it.
template <int N>
__device__ inline void block_sum(float (&x)[N]) {
  __shared__ float sums[N][kWarp];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = warp_sum(x[i]);
  if (lane == 0) {
#pragma unroll
    for (int i = 0; i < N; ++i) sums[i][warp] = x[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = warp_sum(lane < warps ? sums[i][lane] : 0.0F);
  __syncthreads();  // sums may be used again
}

}  // namespace steploom
