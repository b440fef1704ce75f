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

// What only the device knows: the gradients' sum of squares, and the step's corrections where a
// captured graph is replayed step after step.
struct AdamFromDevice {
  const float* squares;
  float clip;
  const AdamCorrections* corrections;
  __device__ void into(AdamConstants& c) const {
    if (squares != nullptr) c.factor *= fminf(1.0F, clip / (__fsqrt_rn(*squares) + 1e-6F));
    if (corrections == nullptr) return;
    c.rate *= corrections->first;
    c.root_bias = corrections->second_root;
  }
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
                          const float* gradient, std::int64_t count, AdamConstants c,
                          AdamFromDevice more) {
  more.into(c);
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

__global__ void put_corrections(AdamCorrections* to, AdamCorrections value) {
  *to = value;
}

// This thread's share of Σ x²; x is 16-byte aligned.
__device__ float own_squares(const float* x, std::int64_t count) {
  constexpr int kAhead = 4;
  const std::int64_t vectors = count / 4;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  float sum = 0;
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
      sum += f[p].x * f[p].x + f[p].y * f[p].y + f[p].z * f[p].z + f[p].w * f[p].w;
    }
  }
  if (first < count - 4 * vectors) {
    const float rest = x[4 * vectors + first];
    sum += rest * rest;
  }
  return sum;
}

// So many pieces travel as a kernel's argument.
struct SquarePieces {
  static constexpr int kMost = 64;
  SquarePiece piece[kMost];
  int count;
};

__global__ void partial_squares(float* scratch, SquarePieces pieces) {
  float sum[1] = {0};
  for (int i = 0; i < pieces.count; ++i) {
    sum[0] += pieces.piece[i].factor * own_squares(pieces.piece[i].x, pieces.piece[i].count);
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
  const AdamCorrections of_step = adam_corrections(s.beta1, s.beta2, s.step);
  const AdamConstants c{s.corrections == nullptr ? s.rate * of_step.first : s.rate,
                        s.beta1,
                        s.beta2,
                        s.epsilon,
                        s.rate * s.decay,
                        s.factor,
                        of_step.second_root};
  const std::int64_t blocks = (count + kThreads * kLanes - 1) / (kThreads * kLanes);
  adam_step<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      parameters, master, first, second, gradient, count, c,
      AdamFromDevice{s.clip > 0 ? s.squares : nullptr, s.clip, s.corrections});
  check_launch("adam");
}

AdamCorrections adam_corrections(float beta1, float beta2, std::int64_t step) {
  const auto t = static_cast<double>(step);
  const double bias1 = 1 - std::pow(static_cast<double>(beta1), t);
  const double bias2 = 1 - std::pow(static_cast<double>(beta2), t);
  return {static_cast<float>(1 / bias1), static_cast<float>(1 / std::sqrt(bias2))};
}

void set_corrections(AdamCorrections* to, const AdamCorrections& value, Stream stream) {
  put_corrections<<<1, 1, 0, stream>>>(to, value);
  check_launch("set_corrections");
}

std::int64_t square_scratch(std::int64_t pieces) {
  const std::int64_t kernels = (pieces + SquarePieces::kMost - 1) / SquarePieces::kMost;
  return kernels * kBlocksPerSm * sm_count();
}

void sum_of_squares(float* sum, float* scratch, std::span<const SquarePiece> pieces,
                    Stream stream) {
  if (pieces.empty()) throw DeviceError("sum_of_squares: nothing to sum");
  const std::int64_t blocks = square_scratch(1);
  std::int64_t partials = 0;
  SquarePieces some{};
  for (const SquarePiece& piece : pieces) {
    some.piece[some.count++] = piece;
    if (some.count < SquarePieces::kMost && &piece != &pieces.back()) continue;
    partial_squares<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(scratch + partials,
                                                                            some);
    check_launch("sum_of_squares");
    partials += blocks;
    some.count = 0;
  }
  sum_partials<<<1, kThreads, 0, stream>>>(sum, scratch, static_cast<int>(partials));
  check_launch("sum_of_squares");
}

}  // namespace steploom::kernels
