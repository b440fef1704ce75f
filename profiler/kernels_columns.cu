// Sums over rows: the gradient of a bias.
#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

constexpr int kStripes = 8;         // warps of a block, each with its own rows
constexpr int kRowsPerStripe = 64;  // of one block
constexpr int kBlockRows = kStripes * kRowsPerStripe;
constexpr int kColumns = kWarp * kLanes;

// scratch[row block][column]: the sum over the block's rows, in a fixed order.
__global__ void partial_columns(float* scratch, const Bf16* x, std::int64_t m, int n) {
  __shared__ float stripes[kStripes][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int stripe = static_cast<int>(threadIdx.x) / kWarp;
  const int column = static_cast<int>(blockIdx.x) * kColumns + lane * kLanes;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * kBlockRows + stripe;
  Floats sum{};
  if (column < n) {
#pragma unroll 8
    for (int i = 0; i < kRowsPerStripe; ++i) {
      const std::int64_t row = first + static_cast<std::int64_t>(i) * kStripes;
      if (row >= m) continue;
      const Floats f = load(x + row * n + column);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) sum.v[j] += f.v[j];
    }
  }
#pragma unroll
  for (int j = 0; j < kLanes; ++j) stripes[stripe][lane * kLanes + j] = sum.v[j];
  __syncthreads();
  const int mine = static_cast<int>(blockIdx.x) * kColumns + static_cast<int>(threadIdx.x);
  if (mine >= n) return;
  float total = 0;
  for (int s = 0; s < kStripes; ++s) total += stripes[s][threadIdx.x];
  scratch[static_cast<std::int64_t>(blockIdx.y) * n + mine] = total;
}

__global__ void add_partial_columns(float* to, const float* scratch, int blocks, int n) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (column >= n) return;
  float sum = 0;
#pragma unroll 8
  for (int b = 0; b < blocks; ++b) sum += scratch[static_cast<std::int64_t>(b) * n + column];
  to[column] += sum;
}

std::int64_t row_blocks(std::int64_t m) {
  return (m + kBlockRows - 1) / kBlockRows;
}

}  // namespace

std::int64_t column_scratch(std::int64_t m, std::int64_t n) {
  return row_blocks(m) * n;
}

void add_columns(float* to, float* scratch, const Bf16* x, std::int64_t m, std::int64_t n,
                 Stream stream) {
  static_assert(kColumns == kStripes * kWarp, "a thread a column in the last sum");
  vectors_of("add_columns", m, n);
  const auto blocks = static_cast<unsigned>(row_blocks(m));
  const dim3 grid(blocks_for(static_cast<std::uint32_t>(n), kColumns), blocks);
  partial_columns<<<grid, kStripes * kWarp, 0, stream>>>(scratch, x, m, static_cast<int>(n));
  check_launch("add_columns");
  constexpr int kFew = 64;  // columns a block: small blocks, so that narrow rows use many SMs
  add_partial_columns<<<blocks_for(static_cast<std::uint32_t>(n), kFew), kFew, 0, stream>>>(
      to, scratch, static_cast<int>(blocks), static_cast<int>(n));
  check_launch("add_columns");
}

}  // namespace steploom::kernels
