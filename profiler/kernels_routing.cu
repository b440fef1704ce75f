// The router: scores and choices, one warp a token; places of the choices in the experts' fixed
// capacity; the gradient.
//
// Choices take places in order of (token, choice). Blocks of 1024 choices count theirs by expert;
// then each block adds up the counts before it, its warps theirs, and a choice the earlier lanes of
// its own warp: the same places in every run.
#include <cfloat>

#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

constexpr int kMostExperts = 512;
constexpr int kMostChoices = 16;
constexpr int kTokensPerBlock = kThreads / kWarp;
constexpr int kPlaceThreads = 1024;
constexpr int kPlaceWarps = kPlaceThreads / kWarp;

__device__ float value_of(Bf16 x) {
  return __uint_as_float(static_cast<std::uint32_t>(x) << 16);
}

// A tape holds −1 − expert where the choice was dropped.
__device__ std::int32_t expert_on(std::int32_t tape) {
  return tape < 0 ? -1 - tape : tape;
}

// Slots: experts that one lane holds.
template <int Slots>
__global__ void route(float* scores, std::int32_t* chosen, float* weight, std::int32_t* source,
                      const Bf16* logits, std::int64_t m, int n, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t token =
      static_cast<std::int64_t>(blockIdx.x) * kTokensPerBlock + threadIdx.x / kWarp;
  if (token >= m) return;
  float s[Slots];  // logits
  float most = -FLT_MAX;
#pragma unroll
  for (int i = 0; i < Slots; ++i) {
    const int expert = i * kWarp + lane;
    s[i] = expert < n ? value_of(logits[token * n + expert]) : -FLT_MAX;
    most = fmaxf(most, s[i]);
  }
  most = warp_max(most);
  if (scores != nullptr) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < Slots; ++i) sum += i * kWarp + lane < n ? __expf(s[i] - most) : 0.0F;
    const float factor = 1.0F / warp_sum(sum);
#pragma unroll
    for (int i = 0; i < Slots; ++i) {
      const int expert = i * kWarp + lane;
      if (expert < n) scores[token * n + expert] = __expf(s[i] - most) * factor;
    }
  }
  float kept = 0;  // lane j: the exponential of choice j
  int kept_expert = 0;
  float total = 0;
  for (int j = 0; j < k; ++j) {
    float best = -FLT_MAX;
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
      if (i * kWarp + lane == best_expert) s[i] = -FLT_MAX;
    }
    const float power = __expf(best - most);
    total += power;
    if (lane == j) {
      kept = power;
      kept_expert = best_expert;
    }
  }
  if (lane < k) {
    chosen[token * k + lane] = kept_expert;
    weight[token * k + lane] = kept / total;
    if (source != nullptr) source[token * k + lane] = -1;
  }
}

// Choices from a tape, weights from the logits of those. One thread a token.
__global__ void route_again(std::int32_t* chosen, float* weight, std::int32_t* source,
                            const Bf16* logits, const std::int32_t* tape, std::int64_t m, int n,
                            int k) {
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (token >= m) return;
  float most = -FLT_MAX;
  for (int j = 0; j < k; ++j) {
    const std::int32_t expert = expert_on(tape[token * k + j]);
    chosen[token * k + j] = expert;
    source[token * k + j] = -1;
    most = fmaxf(most, value_of(logits[token * n + expert]));
  }
  float total = 0;
  for (int j = 0; j < k; ++j) {
    total += __expf(value_of(logits[token * n + expert_on(tape[token * k + j])]) - most);
  }
  for (int j = 0; j < k; ++j) {
    const float power = __expf(value_of(logits[token * n + expert_on(tape[token * k + j])]) - most);
    weight[token * k + j] = power / total;
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

// counts[block][expert]: choices of this block that take a place.
__global__ void count_choices(std::int32_t* counts, const std::int32_t* choice, std::int64_t all,
                              int n) {
  __shared__ std::int32_t mine[kMostExperts];
  for (int e = static_cast<int>(threadIdx.x); e < n; e += kPlaceThreads) mine[e] = 0;
  __syncthreads();
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kPlaceThreads + threadIdx.x;
  if (at < all && choice[at] >= 0) atomicAdd(&mine[choice[at]], 1);
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < n; e += kPlaceThreads) {
    counts[static_cast<std::int64_t>(blockIdx.x) * n + e] = mine[e];
  }
}

// `chunk`: rows of an expert in one chunk. `choice`: experts, negative where dropped before. Writes
// the tape if there is one to record.
__global__ void place_choices(std::int32_t* position, std::int32_t* source, std::int32_t* record,
                              const std::int32_t* choice, const std::int32_t* counts,
                              std::int64_t all, int n, std::int64_t capacity, std::int64_t chunk) {
  __shared__ std::int32_t before[kMostExperts];                 // this block
  __shared__ std::uint16_t of_warp[kPlaceWarps][kMostExperts];  // then: before the warp
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int e = static_cast<int>(threadIdx.x); e < n; e += kPlaceThreads) {
    std::int32_t sum = 0;
#pragma unroll 8
    for (unsigned b = 0; b < blockIdx.x; ++b) sum += counts[static_cast<std::int64_t>(b) * n + e];
    before[e] = sum;
  }
  for (int e = lane; e < n; e += kWarp) of_warp[warp][e] = 0;
  __syncwarp();
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kPlaceThreads + threadIdx.x;
  const std::int32_t expert = at < all ? choice[at] : -1;
  const unsigned same = __match_any_sync(0xFFFFFFFFU, expert);
  const int earlier = __popc(same & ((1U << lane) - 1U));
  if (expert >= 0 && earlier == 0) {
    of_warp[warp][expert] = static_cast<std::uint16_t>(__popc(same));
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < n; e += kPlaceThreads) {
    std::uint16_t sum = 0;
    for (int w = 0; w < kPlaceWarps; ++w) {
      const std::uint16_t own = of_warp[w][e];
      of_warp[w][e] = sum;
      sum = static_cast<std::uint16_t>(sum + own);
    }
  }
  __syncthreads();
  if (at >= all) return;
  std::int64_t place = capacity;
  if (expert >= 0) place = before[expert] + of_warp[warp][expert] + earlier;
  const bool kept = expert >= 0 && place < capacity;
  const std::int64_t row = (place / chunk * n + expert) * chunk + place % chunk;
  position[at] = kept ? static_cast<std::int32_t>(row) : -1;
  if (kept) source[row] = static_cast<std::int32_t>(at);
  if (record != nullptr) record[at] = kept ? expert : -1 - expert;
}

void need_router(const char* name, std::int64_t m, int n, int k) {
  if (m > 0 && n > 0 && n <= kMostExperts && k > 0 && k <= kMostChoices && k <= n) return;
  throw DeviceError(std::string(name) + ": no kernel for " + std::to_string(k) + " of " +
                    std::to_string(n) + " experts");
}

unsigned router_blocks(std::int64_t m) {
  return static_cast<unsigned>((m + kTokensPerBlock - 1) / kTokensPerBlock);
}

std::int64_t place_blocks(std::int64_t choices) {
  return (choices + kPlaceThreads - 1) / kPlaceThreads;
}

}  // namespace

void router(float* scores, std::int32_t* chosen, float* weight, const Bf16* logits, std::int64_t m,
            int n, int k, Stream stream, std::int32_t* source) {
  need_router("router", m, n, k);
  const auto kernel = n <= kWarp       ? route<1>
                      : n <= 4 * kWarp ? route<4>
                      : n <= 8 * kWarp ? route<8>
                                       : route<16>;
  kernel<<<router_blocks(m), kThreads, 0, stream>>>(scores, chosen, weight, source, logits, m, n,
                                                    k);
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

void router_again(std::int32_t* chosen, float* weight, std::int32_t* source, const Bf16* logits,
                  const std::int32_t* tape, std::int64_t m, int n, int k, Stream stream) {
  need_router("router_again", m, n, k);
  route_again<<<blocks_for(static_cast<std::uint32_t>(m), kThreads), kThreads, 0, stream>>>(
      chosen, weight, source, logits, tape, m, n, k);
  check_launch("router_again");
}

std::int64_t place_scratch(std::int64_t choices, int n) {
  return place_blocks(choices) * n;
}

void place(const Placing& p, std::int32_t* scratch, Stream stream) {
  need_router("place", p.choices, p.experts, 1);
  const auto blocks = static_cast<unsigned>(place_blocks(p.choices));
  count_choices<<<blocks, kPlaceThreads, 0, stream>>>(scratch, p.choice, p.choices, p.experts);
  check_launch("place");
  place_choices<<<blocks, kPlaceThreads, 0, stream>>>(p.position, p.source, p.record, p.choice,
                                                      scratch, p.choices, p.experts, p.capacity,
                                                      p.capacity / p.chunks);
  check_launch("place");
}

}  // namespace steploom::kernels
