// The loss over the vocabulary, or over a slice of it: one block a token.
#include <cfloat>

#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

constexpr int kLossThreads = 512;

__device__ float value_of(Bf16 x) {
  return __uint_as_float(static_cast<std::uint32_t>(x) << 16);
}

// A running maximum and the sum of exponentials relative to it.
struct LogSum {
  float most = -FLT_MAX;
  float sum = 0;
  __device__ void add(float other_most, float other_sum) {
    const float together = fmaxf(most, other_most);
    sum = sum * __expf(most - together) + other_sum * __expf(other_most - together);
    most = together;
  }
};

// Of a whole row; only thread 0 knows it.
__device__ LogSum log_sum_of(const Bf16* from, int vectors) {
  constexpr int kAhead = 4;
  LogSum mine;
  for (int begin = static_cast<int>(threadIdx.x); begin < vectors; begin += kAhead * kLossThreads) {
    Floats f[kAhead];
#pragma unroll
    for (int p = 0; p < kAhead; ++p) {
      const int v = begin + p * kLossThreads;
      if (v < vectors) {
        f[p] = load(from + static_cast<std::int64_t>(v) * kLanes);
      } else {
#pragma unroll
        for (int i = 0; i < kLanes; ++i) f[p].v[i] = -FLT_MAX;
      }
    }
    float most = mine.most;
#pragma unroll
    for (int p = 0; p < kAhead; ++p) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) most = fmaxf(most, f[p].v[i]);
    }
    float sum = 0;
#pragma unroll
    for (int p = 0; p < kAhead; ++p) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) sum += __expf(f[p].v[i] - most);
    }
    mine.sum = mine.sum * __expf(mine.most - most) + sum;
    mine.most = most;
  }
  __shared__ float maxima[kLossThreads / kWarp];
  __shared__ float sums[kLossThreads / kWarp];
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    mine.add(__shfl_xor_sync(0xFFFFFFFFU, mine.most, step),
             __shfl_xor_sync(0xFFFFFFFFU, mine.sum, step));
  }
  if (threadIdx.x % kWarp == 0) {
    maxima[threadIdx.x / kWarp] = mine.most;
    sums[threadIdx.x / kWarp] = mine.sum;
  }
  __syncthreads();
  if (threadIdx.x >= kWarp) return mine;
  constexpr int kWarps = kLossThreads / kWarp;
  mine.most = maxima[threadIdx.x % kWarps];
  mine.sum = sums[threadIdx.x % kWarps];
#pragma unroll
  for (int step = kWarps / 2; step > 0; step /= 2) {
    mine.add(__shfl_xor_sync(0xFFFFFFFFU, mine.most, step),
             __shfl_xor_sync(0xFFFFFFFFU, mine.sum, step));
  }
  return mine;
}

__global__ void loss_forward(float* loss, float* log_sum, const Bf16* logits,
                             const std::int32_t* target, int vectors) {
  const std::int64_t row = blockIdx.x;
  const Bf16* from = logits + row * vectors * kLanes;
  const LogSum of_row = log_sum_of(from, vectors);
  if (threadIdx.x != 0) return;
  const float log_of_sum = of_row.most + logf(of_row.sum);
  log_sum[row] = log_of_sum;
  loss[row] = log_of_sum - value_of(from[target[row]]);
}

__global__ void loss_of_slice(float* maximum, float* local, const Bf16* logits,
                              const std::int32_t* target, std::int32_t first_id, int vectors) {
  const std::int64_t row = blockIdx.x;
  const Bf16* from = logits + row * vectors * kLanes;
  const LogSum of_row = log_sum_of(from, vectors);
  if (threadIdx.x != 0) return;
  const std::int32_t at = target[row] - first_id;
  maximum[row] = of_row.most;
  local[3 * row] = of_row.most;
  local[3 * row + 1] = of_row.sum;
  local[3 * row + 2] = at >= 0 && at < vectors * kLanes ? value_of(from[at]) : 0.0F;
}

__global__ void loss_sums(float* sums, const float* local, const float* maximum, std::int64_t m) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= m) return;
  sums[2 * row] = local[3 * row + 1] * __expf(local[3 * row] - maximum[row]);
  sums[2 * row + 1] = local[3 * row + 2];
}

__global__ void loss_end(float* loss, float* log_sum, const float* maximum, const float* sums,
                         std::int64_t m) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= m) return;
  const float log_of_sum = maximum[row] + logf(sums[2 * row]);
  log_sum[row] = log_of_sum;
  loss[row] = log_of_sum - sums[2 * row + 1];
}

__global__ void loss_backward(Bf16* d_logits, const Bf16* logits, const float* log_sum,
                              const std::int32_t* target, std::int32_t first_id, float factor,
                              std::uint32_t vectors, std::uint32_t row_vectors) {
  const std::uint32_t begin = blockIdx.x * (2 * kThreads) + threadIdx.x;
#pragma unroll
  for (std::uint32_t v = begin; v < begin + 2 * kThreads; v += kThreads) {
    if (v >= vectors) continue;
    const std::uint32_t row = v / row_vectors;
    Floats f = load(logits + static_cast<std::int64_t>(v) * kLanes);
    const float shift = log_sum[row];
    const int at = target[row] - first_id - static_cast<int>(v - row * row_vectors) * kLanes;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      f.v[i] = (__expf(f.v[i] - shift) - (i == at ? 1.0F : 0.0F)) * factor;
    }
    store(d_logits + static_cast<std::int64_t>(v) * kLanes, f);
  }
}

}  // namespace

void cross_entropy(float* loss, float* log_sum, const Bf16* logits, const std::int32_t* target,
                   std::int64_t m, std::int64_t n, Stream stream) {
  vectors_of("cross_entropy", m, n);
  loss_forward<<<static_cast<unsigned>(m), kLossThreads, 0, stream>>>(loss, log_sum, logits, target,
                                                                      static_cast<int>(n / kLanes));
  check_launch("cross_entropy");
}

void cross_entropy_slice(float* maximum, float* local, const Bf16* logits,
                         const std::int32_t* target, std::int32_t first_id, std::int64_t m,
                         std::int64_t n, Stream stream) {
  vectors_of("cross_entropy_slice", m, n);
  loss_of_slice<<<static_cast<unsigned>(m), kLossThreads, 0, stream>>>(
      maximum, local, logits, target, first_id, static_cast<int>(n / kLanes));
  check_launch("cross_entropy_slice");
}

void cross_entropy_sums(float* sums, const float* local, const float* maximum, std::int64_t m,
                        Stream stream) {
  loss_sums<<<blocks_for(static_cast<std::uint32_t>(m), kThreads), kThreads, 0, stream>>>(
      sums, local, maximum, m);
  check_launch("cross_entropy_sums");
}

void cross_entropy_end(float* loss, float* log_sum, const float* maximum, const float* sums,
                       std::int64_t m, Stream stream) {
  loss_end<<<blocks_for(static_cast<std::uint32_t>(m), kThreads), kThreads, 0, stream>>>(
      loss, log_sum, maximum, sums, m);
  check_launch("cross_entropy_end");
}

void cross_entropy_backward(Bf16* d_logits, const Bf16* logits, const float* log_sum,
                            const std::int32_t* target, float factor, std::int64_t m,
                            std::int64_t n, Stream stream, std::int32_t first_id) {
  const std::uint32_t vectors = vectors_of("cross_entropy_backward", m, n);
  loss_backward<<<blocks_for(vectors, 2 * kThreads), kThreads, 0, stream>>>(
      d_logits, logits, log_sum, target, first_id, factor, vectors,
      static_cast<std::uint32_t>(n / kLanes));
  check_launch("cross_entropy_backward");
}

}  // namespace steploom::kernels
