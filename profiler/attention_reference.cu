#include "profiler/attention_reference.h"

#include <algorithm>
#include <cmath>

#include "profiler/buffer.h"
#include "profiler/device_check.cuh"

namespace steploom {
namespace {

constexpr int kBlock = 256;

__device__ double wide(Bf16 x) {
  return static_cast<double>(__uint_as_float(static_cast<std::uint32_t>(x) << 16));
}

__global__ void dots_kernel(double* to, const Bf16* x, std::int64_t x_row, const Bf16* y,
                            std::int64_t y_row, std::int64_t count, int length) {
  const std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (r >= count) return;
  double sum = 0;
  for (int c = 0; c < length; ++c) sum += wide(x[r * x_row + c]) * wide(y[r * y_row + c]);
  to[r] = sum;
}

// One block a column: the sum of weight · x over the rows, and the sum of its terms' squares.
__global__ void weighted_kernel(double* sums, double* squares, const double* weights, const Bf16* x,
                                std::int64_t x_row, std::int64_t count) {
  __shared__ double sum[kBlock];
  __shared__ double square[kBlock];
  double mine = 0;
  double mine_squared = 0;
  for (std::int64_t r = threadIdx.x; r < count; r += kBlock) {
    const double term = weights[r] * wide(x[r * x_row + blockIdx.x]);
    mine += term;
    mine_squared += term * term;
  }
  sum[threadIdx.x] = mine;
  square[threadIdx.x] = mine_squared;
  for (int half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    sum[threadIdx.x] += sum[threadIdx.x + half];
    square[threadIdx.x] += square[threadIdx.x + half];
  }
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = sum[0];
    squares[blockIdx.x] = square[0];
  }
}

double* doubles(const DeviceBuffer& buffer) {
  return static_cast<double*>(buffer.data());
}

// x[r]·y[r] of `count` rows r; a row step of 0 takes the same row always.
std::vector<double> dots(const Bf16* x, std::int64_t x_row, const Bf16* y, std::int64_t y_row,
                         std::int64_t count, int length) {
  const DeviceBuffer to(count * 8);
  const auto blocks = static_cast<unsigned>((count + kBlock - 1) / kBlock);
  dots_kernel<<<blocks, kBlock>>>(doubles(to), x, x_row, y, y_row, count, length);
  check_launch("reference dots");
  return to_host(doubles(to), count);
}

// Adds Σ weight[r] · x[r] to a row of results, and its noise.
void add_weighted(ReferenceRow& row, const std::vector<double>& weights, const Bf16* x,
                  std::int64_t x_row, int columns) {
  const auto count = static_cast<std::int64_t>(weights.size());
  const DeviceBuffer w(count * 8);
  const DeviceBuffer results(std::int64_t{columns} * 16);
  copy_to_device(w.data(), weights.data(), count * 8);
  weighted_kernel<<<static_cast<unsigned>(columns), kBlock>>>(
      doubles(results), doubles(results) + columns, doubles(w), x, x_row, count);
  check_launch("reference sums");
  const std::vector<double> all = to_host(doubles(results), std::int64_t{columns} * 2);
  const auto width = static_cast<std::size_t>(columns);
  row.values.resize(width);
  row.noise.resize(width);
  for (std::size_t c = 0; c < width; ++c) {
    row.values[c] += all[c];
    row.noise[c] = std::hypot(row.noise[c], std::sqrt(all[width + c]), all[c]);
  }
}

}  // namespace

double AttentionReference::scale() const {
  return 1 / std::sqrt(static_cast<double>(shape_.head_dim));
}

ReferenceForward AttentionReference::forward(const AttentionRow& row) const {
  const int group = shape_.heads / shape_.kv_heads;
  const AttentionRow first{row.sequence, row.head / group, 0};
  std::vector<double> p = dots(row_of(t_.k, at_.k, first), at_.k.row, row_of(t_.q, at_.q, row), 0,
                               row.token + 1, shape_.head_dim);
  for (double& s : p) s *= scale();
  const double most = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (const double s : p) sum += std::exp(s - most);
  ReferenceForward result;
  result.lse = most + std::log(sum);
  for (double& s : p) s = std::exp(s - result.lse);
  add_weighted(result.out, p, row_of(t_.v, at_.v, first), at_.v.row, shape_.v_head_dim);
  return result;
}

ReferenceRow AttentionReference::dq(const AttentionRow& row) const {
  const int group = shape_.heads / shape_.kv_heads;
  const AttentionRow first{row.sequence, row.head / group, 0};
  const std::int64_t keys = row.token + 1;
  const Bf16* d_out = row_of(t_.d_out, at_.out, row);
  std::vector<double> ds = dots(row_of(t_.k, at_.k, first), at_.k.row, row_of(t_.q, at_.q, row), 0,
                                keys, shape_.head_dim);
  const std::vector<double> dp =
      dots(row_of(t_.v, at_.v, first), at_.v.row, d_out, 0, keys, shape_.v_head_dim);
  const double centre =
      dots(row_of(t_.out, at_.out, row), 0, d_out, 0, 1, shape_.v_head_dim).front();
  const double lse = static_cast<double>(
      to_host(t_.lse + (row.sequence * shape_.heads + row.head) * shape_.sequence + row.token, 1)
          .front());
  for (std::size_t j = 0; j < ds.size(); ++j) {
    ds[j] = std::exp(ds[j] * scale() - lse) * (dp[j] - centre) * scale();
  }
  ReferenceRow result;
  add_weighted(result, ds, row_of(t_.k, at_.k, first), at_.k.row, shape_.head_dim);
  return result;
}

void AttentionReference::dkv(const AttentionRow& row, ReferenceRow& dk, ReferenceRow& dv) const {
  const int group = shape_.heads / shape_.kv_heads;
  const std::int64_t queries = shape_.sequence - row.token;
  for (std::int64_t head = row.head * group; head < (row.head + 1) * group; ++head) {
    const AttentionRow from{row.sequence, head, row.token};
    const Bf16* q = row_of(t_.q, at_.q, from);
    const Bf16* d_out = row_of(t_.d_out, at_.out, from);
    std::vector<double> p =
        dots(q, at_.q.row, row_of(t_.k, at_.k, row), 0, queries, shape_.head_dim);
    const std::vector<double> dp =
        dots(d_out, at_.out.row, row_of(t_.v, at_.v, row), 0, queries, shape_.v_head_dim);
    const std::vector<double> centre = dots(d_out, at_.out.row, row_of(t_.out, at_.out, from),
                                            at_.out.row, queries, shape_.v_head_dim);
    const std::vector<float> lse = to_host(
        t_.lse + (row.sequence * shape_.heads + head) * shape_.sequence + row.token, queries);
    std::vector<double> ds(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      p[i] = std::exp(p[i] * scale() - static_cast<double>(lse[i]));
      ds[i] = p[i] * (dp[i] - centre[i]) * scale();
    }
    add_weighted(dk, ds, q, at_.q.row, shape_.head_dim);
    add_weighted(dv, p, d_out, at_.out.row, shape_.v_head_dim);
  }
}

}  // namespace steploom
