// Softmaxes: the router over experts, one warp a token, and the loss over the vocabulary, one block
// a token.
#include <cfloat>

#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

constexpr int kMostExperts = 512;
constexpr int kMostChoices = 16;
constexpr int kTokensPerBlock = kThreads / kWarp;
constexpr int kLossThreads = 512;

__device__ float value_of(Bf16 x) {
  return __uint_as_float(static_cast<std::uint32_t>(x) << 16);
}

// Slots: experts that one lane holds.
template <int Slots>
__global__ void route(float* scores, std::int32_t* chosen, float* weight, const Bf16* logits,
                      std::int64_t m, int n, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t token =
      static_cast<std::int64_t>(blockIdx.x) * kTokensPerBlock + threadIdx.x / kWarp;
  if (token >= m) return;
  float s[Slots];
  float most = -FLT_MAX;
#pragma unroll
  for (int i = 0; i < Slots; ++i) {
    const int expert = i * kWarp + lane;
    s[i] = expert < n ? value_of(logits[token * n + expert]) : -FLT_MAX;
    most = fmaxf(most, s[i]);
  }
  most = warp_max(most);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < Slots; ++i) {
    s[i] = i * kWarp + lane < n ? __expf(s[i] - most) : -1.0F;
    sum += fmaxf(s[i], 0.0F);
  }
  sum = warp_sum(sum);
#pragma unroll
  for (int i = 0; i < Slots; ++i) {
    const int expert = i * kWarp + lane;
    if (expert >= n) continue;
    s[i] /= sum;
    scores[token * n + expert] = s[i];
  }
  float kept = 0;  // lane j: the score of choice j
  int kept_expert = 0;
  float total = 0;
  for (int j = 0; j < k; ++j) {
    float best = -2.0F;
    int best_expert = n;
#pragma unroll
    for (int i = 0; i < Slots; ++i) {
      if (s[i] > best) {
        best = s[i];
        best_expert = i * kWarp + lane;
      }
    }
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(0xFFFFFFFFU, best, step);
      const int other_expert = __shfl_xor_sync(0xFFFFFFFFU, best_expert, step);
      if (other > best || (other == best && other_expert < best_expert)) {
        best = other;
        best_expert = other_expert;
      }
    }
#pragma unroll
    for (int i = 0; i < Slots; ++i) {
      if (i * kWarp + lane == best_expert) s[i] = -1.0F;
    }
    total += best;
    if (lane == j) {
      kept = best;
      kept_expert = best_expert;
    }
  }
  if (lane < k) {
    chosen[token * k + lane] = kept_expert;
    weight[token * k + lane] = kept / total;
  }
}

// Weights that add up to one are the softmax over the chosen experts alone.
template <int Slots>
__global__ void route_gradient(Bf16* d_logits, const float* d_weight, const float* weight,
                               const std::int32_t* chosen, std::int64_t m, int n, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t token =
      static_cast<std::int64_t>(blockIdx.x) * kTokensPerBlock + threadIdx.x / kWarp;
  if (token >= m) return;
  const float w = lane < k ? weight[token * k + lane] : 0.0F;
  const float d = lane < k ? d_weight[token * k + lane] : 0.0F;
  const int expert = lane < k ? chosen[token * k + lane] : -1;
  const float mine = w * (d - warp_sum(w * d));
  float out[Slots] = {};
  for (int j = 0; j < k; ++j) {
    const float value = __shfl_sync(0xFFFFFFFFU, mine, j);
    const int at = __shfl_sync(0xFFFFFFFFU, expert, j);
#pragma unroll
    for (int i = 0; i < Slots; ++i) {
      if (i * kWarp + lane == at) out[i] = value;
    }
  }
#pragma unroll
  for (int i = 0; i < Slots; ++i) {
    const int at = i * kWarp + lane;
    if (at >= n) continue;
    const __nv_bfloat16 rounded = __float2bfloat16_rn(out[i]);
    d_logits[token * n + at] = __bfloat16_as_ushort(rounded);
  }
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

__global__ void loss_forward(float* loss, float* log_sum, const Bf16* logits,
                             const std::int32_t* target, int vectors) {
  constexpr int kAhead = 4;
  const std::int64_t row = blockIdx.x;
  const Bf16* from = logits + row * vectors * kLanes;
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
  if (threadIdx.x >= kWarp) return;
  constexpr int kWarps = kLossThreads / kWarp;
  mine.most = maxima[threadIdx.x % kWarps];
  mine.sum = sums[threadIdx.x % kWarps];
#pragma unroll
  for (int step = kWarps / 2; step > 0; step /= 2) {
    mine.add(__shfl_xor_sync(0xFFFFFFFFU, mine.most, step),
             __shfl_xor_sync(0xFFFFFFFFU, mine.sum, step));
  }
  if (threadIdx.x != 0) return;
  const float log_of_sum = mine.most + logf(mine.sum);
  log_sum[row] = log_of_sum;
  loss[row] = log_of_sum - value_of(from[target[row]]);
}

__global__ void loss_backward(Bf16* d_logits, const Bf16* logits, const float* log_sum,
                              const std::int32_t* target, float factor, std::uint32_t vectors,
                              std::uint32_t row_vectors) {
  const std::uint32_t begin = blockIdx.x * (2 * kThreads) + threadIdx.x;
#pragma unroll
  for (std::uint32_t v = begin; v < begin + 2 * kThreads; v += kThreads) {
    if (v >= vectors) continue;
    const std::uint32_t row = v / row_vectors;
    Floats f = load(logits + static_cast<std::int64_t>(v) * kLanes);
    const float shift = log_sum[row];
    const int at = target[row] - static_cast<int>(v - row * row_vectors) * kLanes;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      f.v[i] = (__expf(f.v[i] - shift) - (i == at ? 1.0F : 0.0F)) * factor;
    }
    store(d_logits + static_cast<std::int64_t>(v) * kLanes, f);
  }
}

void need_router(const char* name, std::int64_t m, int n, int k) {
  if (m > 0 && n > 0 && n <= kMostExperts && k > 0 && k <= kMostChoices && k <= n) return;
  throw DeviceError(std::string(name) + ": no kernel for " + std::to_string(k) + " of " +
                    std::to_string(n) + " experts");
}

unsigned router_blocks(std::int64_t m) {
  return static_cast<unsigned>((m + kTokensPerBlock - 1) / kTokensPerBlock);
}

}  // namespace

void router(float* scores, std::int32_t* chosen, float* weight, const Bf16* logits, std::int64_t m,
            int n, int k, Stream stream) {
  need_router("router", m, n, k);
  const auto kernel = n <= kWarp       ? route<1>
                      : n <= 4 * kWarp ? route<4>
                      : n <= 8 * kWarp ? route<8>
                                       : route<16>;
  kernel<<<router_blocks(m), kThreads, 0, stream>>>(scores, chosen, weight, logits, m, n, k);
  check_launch("router");
}

void router_backward(Bf16* d_logits, const float* d_weight, const float* weight,
                     const std::int32_t* chosen, std::int64_t m, int n, int k, Stream stream) {
  need_router("router_backward", m, n, k);
  const auto kernel = n <= kWarp       ? route_gradient<1>
                      : n <= 4 * kWarp ? route_gradient<4>
                                       : route_gradient<16>;
  kernel<<<router_blocks(m), kThreads, 0, stream>>>(d_logits, d_weight, weight, chosen, m, n, k);
  check_launch("router_backward");
}

void cross_entropy(float* loss, float* log_sum, const Bf16* logits, const std::int32_t* target,
                   std::int64_t m, std::int64_t n, Stream stream) {
  vectors_of("cross_entropy", m, n);
  loss_forward<<<static_cast<unsigned>(m), kLossThreads, 0, stream>>>(loss, log_sum, logits, target,
                                                                      static_cast<int>(n / kLanes));
  check_launch("cross_entropy");
}

void cross_entropy_backward(Bf16* d_logits, const Bf16* logits, const float* log_sum,
                            const std::int32_t* target, float factor, std::int64_t m,
                            std::int64_t n, Stream stream) {
  const std::uint32_t vectors = vectors_of("cross_entropy_backward", m, n);
  loss_backward<<<blocks_for(vectors, 2 * kThreads), kThreads, 0, stream>>>(
      d_logits, logits, log_sum, target, factor, vectors, static_cast<std::uint32_t>(n / kLanes));
  check_launch("cross_entropy_backward");
}

}  // namespace steploom::kernels
