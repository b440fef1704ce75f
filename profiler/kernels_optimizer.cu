// The optimizer's kernels: AdamW and the sum of squares for clipping.
#include <cmath>

#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

constexpr int kBlocksPerSm = 8;

// One step's constants, bias corrections folded in.
struct AdamConstants {
  float rate;  // rate / (1 − β1^step)
  float beta1;
  float beta2;
  float epsilon;
  float decay;  // rate · decay
  float factor;
  float root_bias;  // 1 / √(1 − β2^step)
};

__device__ void update(float& master, float& first, float& second, float gradient,
                       const AdamConstants& c) {
  const float g = gradient * c.factor;
  first = c.beta1 * first + (1.0F - c.beta1) * g;
  second = c.beta2 * second + (1.0F - c.beta2) * g * g;
  const float root = __fsqrt_rn(second) * c.root_bias + c.epsilon;
  master -= c.decay * master + c.rate * __fdividef(first, root);
}

__global__ void adam_step(Bf16* parameters, float* master, float* first, float* second,
                          const float* gradient, std::int64_t count, AdamConstants c) {
  const std::int64_t at = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kLanes;
  if (at + kLanes <= count) {
    Floats p = load(master + at);
    Floats f = load(first + at);
    Floats s = load(second + at);
    const Floats g = load(gradient + at);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) update(p.v[i], f.v[i], s.v[i], g.v[i], c);
    store(master + at, p);
    store(first + at, f);
    store(second + at, s);
    store(parameters + at, p);
    return;
  }
  for (std::int64_t i = at; i < count; ++i) {
    update(master[i], first[i], second[i], gradient[i], c);
    parameters[i] = __bfloat16_as_ushort(__float2bfloat16_rn(master[i]));
  }
}

__global__ void partial_squares(float* scratch, const float* x, std::int64_t count) {
  constexpr int kAhead = 4;
  const std::int64_t vectors = count / 4;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  float sum[1] = {0};
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (std::int64_t v = first; v < vectors; v += kAhead * stride) {
    float4 f[kAhead];
#pragma unroll
    for (int p = 0; p < kAhead; ++p) {
      const std::int64_t at = v + p * stride;
      f[p] = at < vectors ? reinterpret_cast<const float4*>(x)[at] : make_float4(0, 0, 0, 0);
    }
#pragma unroll
    for (int p = 0; p < kAhead; ++p) {
      sum[0] += f[p].x * f[p].x + f[p].y * f[p].y + f[p].z * f[p].z + f[p].w * f[p].w;
    }
  }
  if (first < count - 4 * vectors) {
    const float rest = x[4 * vectors + first];
    sum[0] += rest * rest;
  }
  block_sum(sum);
  if (threadIdx.x == 0) scratch[blockIdx.x] = sum[0];
}

__global__ void sum_partials(float* sum, const float* scratch, int partials) {
  float total[1] = {0};
  for (int i = static_cast<int>(threadIdx.x); i < partials; i += kThreads) total[0] += scratch[i];
  block_sum(total);
  if (threadIdx.x == 0) *sum = total[0];
}

}  // namespace

void adam(Bf16* parameters, float* master, float* first, float* second, const float* gradient,
          std::int64_t count, const AdamStep& s, Stream stream) {
  if (count <= 0 || s.step < 1) throw DeviceError("adam: no parameters, or a step below 1");
  const auto step = static_cast<double>(s.step);
  const double bias1 = 1 - std::pow(static_cast<double>(s.beta1), step);
  const double bias2 = 1 - std::pow(static_cast<double>(s.beta2), step);
  const AdamConstants c{static_cast<float>(s.rate / bias1),
                        s.beta1,
                        s.beta2,
                        s.epsilon,
                        s.rate * s.decay,
                        s.factor,
                        static_cast<float>(1 / std::sqrt(bias2))};
  const std::int64_t blocks = (count + kThreads * kLanes - 1) / (kThreads * kLanes);
  adam_step<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(parameters, master, first,
                                                                    second, gradient, count, c);
  check_launch("adam");
}

std::int64_t square_scratch() {
  return std::int64_t{kBlocksPerSm} * sm_count();
}

void sum_of_squares(float* sum, float* scratch, const float* x, std::int64_t count, Stream stream) {
  if (count <= 0) throw DeviceError("sum_of_squares: nothing to sum");
  const auto blocks = static_cast<int>(square_scratch());
  partial_squares<<<blocks, kThreads, 0, stream>>>(scratch, x, count);
  check_launch("sum_of_squares");
  sum_partials<<<1, kThreads, 0, stream>>>(sum, scratch, blocks);
  check_launch("sum_of_squares");
}

}  // namespace steploom::kernels
