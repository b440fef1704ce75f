// Rows by index: gather, weighted sums of k rows, their gradients, scatter-add, blocks in another
// order.
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

__global__ void gather_chosen(Bf16* y, const Bf16* x, const std::int32_t* source, int k,
                              std::uint32_t vectors, std::uint32_t row_vectors) {
  const std::uint32_t begin = blockIdx.x * (2 * kThreads) + threadIdx.x;
#pragma unroll
  for (std::uint32_t v = begin; v < begin + 2 * kThreads; v += kThreads) {
    if (v >= vectors) continue;
    const std::uint32_t row = v / row_vectors;
    const std::int32_t choice = source[row];
    uint4 values = make_uint4(0, 0, 0, 0);
    if (choice >= 0) {
      const std::int64_t from =
          static_cast<std::int64_t>(choice / k) * row_vectors + (v - row * row_vectors);
      values = reinterpret_cast<const uint4*>(x)[from];
    }
    reinterpret_cast<uint4*>(y)[v] = values;
  }
}

// Block (i, j) of outer × inner goes to place (j, i) of inner × outer.
__global__ void swap(Bf16* y, const Bf16* x, std::uint32_t vectors, std::uint32_t outer,
                     std::uint32_t inner, std::uint32_t block_vectors) {
  const std::uint32_t begin = blockIdx.x * (2 * kThreads) + threadIdx.x;
#pragma unroll
  for (std::uint32_t v = begin; v < begin + 2 * kThreads; v += kThreads) {
    if (v >= vectors) continue;
    const std::uint32_t block = v / block_vectors;
    const std::uint32_t j = block / outer;
    const std::uint32_t i = block - j * outer;
    const std::uint32_t from = (i * inner + j) * block_vectors + (v - block * block_vectors);
    reinterpret_cast<uint4*>(y)[v] = reinterpret_cast<const uint4*>(x)[from];
  }
}

// Choices: k known to the compiler, so that all rows are loaded before the first is used; 0: any k.
template <int Choices>
__global__ void sum_chosen(Bf16* y, const Bf16* x, const std::int32_t* position,
                           const float* weight, const Bf16* plus, std::uint32_t vectors,
                           std::uint32_t row_vectors, int k) {
  const std::uint32_t v = blockIdx.x * kThreads + threadIdx.x;
  if (v >= vectors) return;
  const std::int64_t token = v / row_vectors;
  const std::int64_t column = v % row_vectors;
  const int choices = Choices > 0 ? Choices : k;
  Floats sum{};
  if (plus != nullptr) sum = load(plus + static_cast<std::int64_t>(v) * kLanes);
#pragma unroll
  for (int j = 0; j < choices; ++j) {
    const std::int64_t row = position[token * choices + j];
    if (row < 0) continue;
    const float w = weight == nullptr ? 1.0F : weight[token * choices + j];
    const Floats f = load(x + (row * row_vectors + column) * kLanes);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) sum.v[i] += w * f.v[i];
  }
  store(y + static_cast<std::int64_t>(v) * kLanes, sum);
}

constexpr int kRowsPerBlock = 32;  // looked at for empty ones

__device__ void zero_empty_rows(Bf16* dx, const std::int32_t* source, std::int64_t first,
                                std::int64_t rows, int vectors) {
  for (std::int64_t row = first; row < first + kRowsPerBlock && row < rows; ++row) {
    if (source[row] >= 0) continue;
    for (int v = static_cast<int>(threadIdx.x); v < vectors; v += static_cast<int>(blockDim.x)) {
      reinterpret_cast<uint4*>(dx)[row * vectors + v] = make_uint4(0, 0, 0, 0);
    }
  }
}

// A block holds one token's gradient and goes through its k rows; the blocks behind the tokens'
// write zeros to rows that no token has.
__global__ void unpermute_gradient(Bf16* dx, float* d_weight, const Bf16* dy, const Bf16* x,
                                   const std::int32_t* position, const float* weight,
                                   const std::int32_t* source, std::int64_t tokens,
                                   std::int64_t rows, int vectors, int k) {
  const std::int64_t token = blockIdx.x;
  if (token >= tokens) {
    zero_empty_rows(dx, source, (token - tokens) * kRowsPerBlock, rows, vectors);
    return;
  }
  float dots[kMostChoices] = {};
  for (int v = static_cast<int>(threadIdx.x); v < vectors; v += static_cast<int>(blockDim.x)) {
    const Floats d = load(dy + (token * vectors + v) * kLanes);
#pragma unroll
    for (int j = 0; j < kMostChoices; ++j) {
      if (j >= k || position[token * k + j] < 0) continue;
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
                            std::uint32_t vectors, std::uint32_t row_vectors, TableRows rows) {
  const std::uint32_t v = blockIdx.x * kThreads + threadIdx.x;
  if (v >= vectors) return;
  const std::uint32_t row = v / row_vectors;
  const std::int64_t at = index[row] - rows.first;
  if (at < 0 || at >= rows.count) return;
  const Floats f = load(dy + static_cast<std::int64_t>(v) * kLanes);
  float* to = table + (at * row_vectors + (v - row * row_vectors)) * kLanes;
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

void permute_rows(Bf16* y, const Bf16* x, const std::int32_t* source, std::int64_t m, int k,
                  std::int64_t n, Stream stream) {
  need_choices("permute_rows", k);
  const std::uint32_t vectors = vectors_of("permute_rows", m, n);
  gather_chosen<<<blocks_for(vectors, 2 * kThreads), kThreads, 0, stream>>>(
      y, x, source, k, vectors, static_cast<std::uint32_t>(n / kLanes));
  check_launch("permute_rows");
}

void swap_blocks(Bf16* y, const Bf16* x, std::int64_t outer, std::int64_t inner, std::int64_t m,
                 std::int64_t n, Stream stream) {
  const std::uint32_t vectors = vectors_of("swap_blocks", m, n);
  if (outer < 1 || inner < 1 || m % (outer * inner) != 0) {
    throw DeviceError("swap_blocks: " + std::to_string(m) + " rows are not " +
                      std::to_string(outer) + " x " + std::to_string(inner) + " equal blocks");
  }
  swap<<<blocks_for(vectors, 2 * kThreads), kThreads, 0, stream>>>(
      y, x, vectors, static_cast<std::uint32_t>(outer), static_cast<std::uint32_t>(inner),
      static_cast<std::uint32_t>(m / (outer * inner) * (n / kLanes)));
  check_launch("swap_blocks");
}

void sum_rows(Bf16* y, const Bf16* x, const std::int32_t* position, const float* weight,
              const Bf16* plus, std::int64_t m, int k, std::int64_t n, Stream stream) {
  need_choices("sum_rows", k);
  const std::uint32_t vectors = vectors_of("sum_rows", m, n);
  const auto kernel = k == 1   ? sum_chosen<1>
                      : k == 2 ? sum_chosen<2>
                      : k == 4 ? sum_chosen<4>
                      : k == 8 ? sum_chosen<8>
                               : sum_chosen<0>;
  kernel<<<blocks_for(vectors, kThreads), kThreads, 0, stream>>>(
      y, x, position, weight, plus, vectors, static_cast<std::uint32_t>(n / kLanes), k);
  check_launch("sum_rows");
}

void unpermute_backward(Bf16* dx, float* d_weight, const Bf16* dy, const Bf16* x,
                        const std::int32_t* position, const float* weight,
                        const std::int32_t* source, std::int64_t m, int k, std::int64_t n,
                        Stream stream) {
  need_choices("unpermute_backward", k);
  vectors_of("unpermute_backward", m, n);
  const std::int64_t rows = source == nullptr ? 0 : m * k;
  const std::int64_t blocks = m + (rows + kRowsPerBlock - 1) / kRowsPerBlock;
  unpermute_gradient<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      dx, d_weight, dy, x, position, weight, source, m, rows, static_cast<int>(n / kLanes), k);
  check_launch("unpermute_backward");
}

void add_rows(float* table, const Bf16* dy, const std::int32_t* index, std::int64_t m,
              std::int64_t n, Stream stream, const TableRows& rows) {
  const std::uint32_t vectors = vectors_of("add_rows", m, n);
  scatter_add<<<blocks_for(vectors, kThreads), kThreads, 0, stream>>>(
      table, dy, index, vectors, static_cast<std::uint32_t>(n / kLanes), rows);
  check_launch("add_rows");
}

}  // namespace steploom::kernels
