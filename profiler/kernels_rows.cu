// Rows by index: gather, weighted sums of k rows, their gradients, scatter-add.
#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

constexpr int kMostChoices = 16;

__global__ void gather(Bf16* y, const Bf16* x, const std::int32_t* index, std::uint32_t vectors,
                       std::uint32_t row_vectors) {
  const std::uint32_t begin = blockIdx.x * (2 * kThreads) + threadIdx.x;
#pragma unroll
  for (std::uint32_t v = begin; v < begin + 2 * kThreads; v += kThreads) {
    if (v >= vectors) continue;
    const std::uint32_t row = v / row_vectors;
    const std::int64_t from =
        static_cast<std::int64_t>(index[row]) * row_vectors + (v - row * row_vectors);
    reinterpret_cast<uint4*>(y)[v] = reinterpret_cast<const uint4*>(x)[from];
  }
}

// Choices: k known to the compiler, so that all rows are loaded before the first is used; 0: any k.
template <int Choices>
__global__ void sum_chosen(Bf16* y, const Bf16* x, const std::int32_t* position,
                           const float* weight, std::uint32_t vectors, std::uint32_t row_vectors,
                           int k) {
  const std::uint32_t v = blockIdx.x * kThreads + threadIdx.x;
  if (v >= vectors) return;
  const std::int64_t token = v / row_vectors;
  const std::int64_t column = v % row_vectors;
  const int choices = Choices > 0 ? Choices : k;
  Floats sum{};
#pragma unroll
  for (int j = 0; j < choices; ++j) {
    const std::int64_t row = position[token * choices + j];
    const float w = weight == nullptr ? 1.0F : weight[token * choices + j];
    const Floats f = load(x + (row * row_vectors + column) * kLanes);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) sum.v[i] += w * f.v[i];
  }
  store(y + static_cast<std::int64_t>(v) * kLanes, sum);
}

// A block holds one token's gradient and goes through its k rows.
__global__ void unpermute_gradient(Bf16* dx, float* d_weight, const Bf16* dy, const Bf16* x,
                                   const std::int32_t* position, const float* weight, int vectors,
                                   int k) {
  const std::int64_t token = blockIdx.x;
  float dots[kMostChoices] = {};
  for (int v = static_cast<int>(threadIdx.x); v < vectors; v += static_cast<int>(blockDim.x)) {
    const Floats d = load(dy + (token * vectors + v) * kLanes);
#pragma unroll
    for (int j = 0; j < kMostChoices; ++j) {
      if (j >= k) continue;
      const std::int64_t at =
          (static_cast<std::int64_t>(position[token * k + j]) * vectors + v) * kLanes;
      const float w = weight[token * k + j];
      const Floats f = load(x + at);
      Floats out;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        dots[j] += d.v[i] * f.v[i];
        out.v[i] = w * d.v[i];
      }
      store(dx + at, out);
    }
  }
#pragma unroll
  for (int j = 0; j < kMostChoices; ++j) {
    if (j >= k) continue;
    float dot[1] = {dots[j]};
    block_sum(dot);
    if (threadIdx.x == 0) d_weight[token * k + j] = dot[0];
  }
}

__global__ void scatter_add(float* table, const Bf16* dy, const std::int32_t* index,
                            std::uint32_t vectors, std::uint32_t row_vectors) {
  const std::uint32_t v = blockIdx.x * kThreads + threadIdx.x;
  if (v >= vectors) return;
  const std::uint32_t row = v / row_vectors;
  const Floats f = load(dy + static_cast<std::int64_t>(v) * kLanes);
  float* to =
      table +
      (static_cast<std::int64_t>(index[row]) * row_vectors + (v - row * row_vectors)) * kLanes;
  atomicAdd(reinterpret_cast<float4*>(to), make_float4(f.v[0], f.v[1], f.v[2], f.v[3]));
  atomicAdd(reinterpret_cast<float4*>(to) + 1, make_float4(f.v[4], f.v[5], f.v[6], f.v[7]));
}

void need_choices(const char* name, int k) {
  if (k < 1 || k > kMostChoices) {
    throw DeviceError(std::string(name) + ": " + std::to_string(k) + " choices a token, 1 to 16");
  }
}

}  // namespace

void gather_rows(Bf16* y, const Bf16* x, const std::int32_t* index, std::int64_t m, std::int64_t n,
                 Stream stream) {
  const std::uint32_t vectors = vectors_of("gather_rows", m, n);
  gather<<<blocks_for(vectors, 2 * kThreads), kThreads, 0, stream>>>(
      y, x, index, vectors, static_cast<std::uint32_t>(n / kLanes));
  check_launch("gather_rows");
}

void sum_rows(Bf16* y, const Bf16* x, const std::int32_t* position, const float* weight,
              std::int64_t m, int k, std::int64_t n, Stream stream) {
  need_choices("sum_rows", k);
  const std::uint32_t vectors = vectors_of("sum_rows", m, n);
  const auto kernel = k == 1   ? sum_chosen<1>
                      : k == 2 ? sum_chosen<2>
                      : k == 4 ? sum_chosen<4>
                      : k == 8 ? sum_chosen<8>
                               : sum_chosen<0>;
  kernel<<<blocks_for(vectors, kThreads), kThreads, 0, stream>>>(
      y, x, position, weight, vectors, static_cast<std::uint32_t>(n / kLanes), k);
  check_launch("sum_rows");
}

void unpermute_backward(Bf16* dx, float* d_weight, const Bf16* dy, const Bf16* x,
                        const std::int32_t* position, const float* weight, std::int64_t m, int k,
                        std::int64_t n, Stream stream) {
  need_choices("unpermute_backward", k);
  vectors_of("unpermute_backward", m, n);
  unpermute_gradient<<<static_cast<unsigned>(m), kThreads, 0, stream>>>(
      dx, d_weight, dy, x, position, weight, static_cast<int>(n / kLanes), k);
  check_launch("unpermute_backward");
}

void add_rows(float* table, const Bf16* dy, const std::int32_t* index, std::int64_t m,
              std::int64_t n, Stream stream) {
  const std::uint32_t vectors = vectors_of("add_rows", m, n);
  scatter_add<<<blocks_for(vectors, kThreads), kThreads, 0, stream>>>(
      table, dy, index, vectors, static_cast<std::uint32_t>(n / kLanes));
  check_launch("add_rows");
}

}  // namespace steploom::kernels
