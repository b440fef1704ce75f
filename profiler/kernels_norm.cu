// RMSNorm and LayerNorm. A block works on whole rows; a thread owns the same columns of each row,
// so the sums over rows that the gains' gradients need stay in its registers until the last row.
#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

constexpr int kBlocksPerSm = 4;  // of the backward kernels, at most: each leaves partial sums

constexpr int kMostThreads = 512;

// How a row is spread over a block: `passes` vectors a thread.
struct RowPlan {
  int passes;
  int threads;
};

RowPlan plan_row(const char* kernel, std::int64_t n) {
  const int vectors = static_cast<int>(vectors_of(kernel, 1, n));
  const int passes = vectors <= kMostThreads ? 1 : vectors <= 2 * kMostThreads ? 2 : 4;
  const int threads = ((vectors + passes - 1) / passes + kWarp - 1) / kWarp * kWarp;
  if (threads > kMostThreads) throw DeviceError(std::string(kernel) + ": rows wider than 16384");
  return {passes, threads};
}

template <int Passes, bool Centred>
__global__ void __launch_bounds__(kMostThreads)
    norm_forward(Bf16* y, float* mean, float* scale, const Bf16* x, const Bf16* gain,
                 const Bf16* bias, int vectors, float epsilon) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t begin = row * vectors * kLanes;
  Floats values[Passes];
  float sums[2] = {0, 0};
#pragma unroll
  for (int p = 0; p < Passes; ++p) {
    const int v = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    values[p] = v < vectors ? load(x + begin + v * kLanes) : Floats{};
  }
#pragma unroll
  for (int p = 0; p < Passes; ++p) {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      sums[0] += values[p].v[i];
      sums[1] += values[p].v[i] * values[p].v[i];
    }
  }
  const float width = static_cast<float>(vectors * kLanes);
  float centre = 0;
  float square = 0;
  if constexpr (Centred) {
    float sum[1] = {sums[0]};
    block_sum(sum);
    centre = sum[0] / width;
    float squares[1] = {0};  // around the mean, so that nothing cancels
#pragma unroll
    for (int p = 0; p < Passes; ++p) {
      const int v = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
      if (v >= vectors) continue;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        squares[0] += (values[p].v[i] - centre) * (values[p].v[i] - centre);
      }
    }
    block_sum(squares);
    square = squares[0];
  } else {
    float squares[1] = {sums[1]};
    block_sum(squares);
    square = squares[0];
  }
  const float factor = rsqrtf(square / width + epsilon);
  if (threadIdx.x == 0) {
    scale[row] = factor;
    if constexpr (Centred) mean[row] = centre;
  }
#pragma unroll
  for (int p = 0; p < Passes; ++p) {
    const int v = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (v >= vectors) continue;
    const Floats g = load(gain + v * kLanes);
    Floats out;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) out.v[i] = (values[p].v[i] - centre) * factor * g.v[i];
    if constexpr (Centred) {
      const Floats b = load(bias + v * kLanes);
#pragma unroll
      for (int i = 0; i < kLanes; ++i) out.v[i] += b.v[i];
    }
    store(y + begin + v * kLanes, out);
  }
}

// A thread's part of one row of x and dy, as it lies in memory.
template <int Passes>
struct RowPart {
  uint4 x[Passes];
  uint4 dy[Passes];

  __device__ void read(const Bf16* from_x, const Bf16* from_dy, std::int64_t row, int vectors) {
#pragma unroll
    for (int p = 0; p < Passes; ++p) {
      const int v = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
      if (v >= vectors) {
        x[p] = dy[p] = make_uint4(0, 0, 0, 0);
        continue;
      }
      x[p] = reinterpret_cast<const uint4*>(from_x)[row * vectors + v];
      dy[p] = reinterpret_cast<const uint4*>(from_dy)[row * vectors + v];
    }
  }
};

// With x̂ the normalised row and g = dy · gain: dx = (g − [mean g] − x̂ · mean(g·x̂)) · scale. The
// next row is on its way while the sums of this one are made.
template <int Passes, bool Centred>
__global__ void __launch_bounds__(kMostThreads)
    norm_backward(Bf16* dx, float* scratch, const Bf16* dy, const Bf16* x, const float* mean,
                  const float* scale, const Bf16* gain, int vectors, std::int64_t m) {
  constexpr bool kAhead = Passes <= 2;  // more would not fit into registers
  Floats gain_sums[Passes] = {};
  Floats bias_sums[Centred ? Passes : 1] = {};
  const float width = static_cast<float>(vectors * kLanes);
  RowPart<Passes> next;
  if constexpr (kAhead) next.read(x, dy, blockIdx.x, vectors);
  for (std::int64_t row = blockIdx.x; row < m; row += gridDim.x) {
    RowPart<Passes> part;
    if constexpr (kAhead) {
      part = next;
      if (row + gridDim.x < m) next.read(x, dy, row + gridDim.x, vectors);
    } else {
      part.read(x, dy, row, vectors);
    }
    const float factor = scale[row];
    const float centre = Centred ? mean[row] : 0.0F;
    float sums[2] = {0, 0};
#pragma unroll
    for (int p = 0; p < Passes; ++p) {
      const int v = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
      if (v >= vectors) continue;
      const Floats hat = unpack(part.x[p]);
      const Floats d = unpack(part.dy[p]);
      const Floats weight = load(gain + v * kLanes);
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const float h = (hat.v[i] - centre) * factor;
        gain_sums[p].v[i] += d.v[i] * h;
        if constexpr (Centred) bias_sums[p].v[i] += d.v[i];
        sums[0] += d.v[i] * weight.v[i] * h;
        if constexpr (Centred) sums[1] += d.v[i] * weight.v[i];
      }
    }
    if constexpr (Centred) {
      block_sum(sums);
    } else {
      float one[1] = {sums[0]};
      block_sum(one);
      sums[0] = one[0];
    }
    const float along = sums[0] / width;
    const float shift = sums[1] / width;
#pragma unroll
    for (int p = 0; p < Passes; ++p) {
      const int v = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
      if (v >= vectors) continue;
      const Floats hat = unpack(part.x[p]);
      const Floats d = unpack(part.dy[p]);
      const Floats weight = load(gain + v * kLanes);
      Floats out;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const float h = (hat.v[i] - centre) * factor;
        out.v[i] = (d.v[i] * weight.v[i] - shift - h * along) * factor;
      }
      store(dx + (row * vectors + v) * kLanes, out);
    }
  }
  float* mine = scratch + static_cast<std::int64_t>(blockIdx.x) * vectors * kLanes;
  const std::int64_t all = static_cast<std::int64_t>(gridDim.x) * vectors * kLanes;
#pragma unroll
  for (int p = 0; p < Passes; ++p) {
    const int v = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (v >= vectors) continue;
    store(mine + v * kLanes, gain_sums[p]);
    if constexpr (Centred) store(mine + all + v * kLanes, bias_sums[p]);
  }
}

// d[column] += Σ rows of partial sums, in a fixed order: 32 columns and 8 stripes of rows a block.
__global__ void add_partials(float* d_gain, float* d_bias, const float* scratch, int rows, int n) {
  __shared__ float stripes[8][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int stripe = static_cast<int>(threadIdx.x) / kWarp;
  const int column = static_cast<int>(blockIdx.x) * kWarp + lane;
  float* to = blockIdx.y == 0 ? d_gain : d_bias;
  const float* from = scratch + static_cast<std::int64_t>(blockIdx.y) * rows * n;
  float sum = 0;
  if (column < n) {
#pragma unroll 4
    for (int row = stripe; row < rows; row += 8) {
      sum += from[static_cast<std::int64_t>(row) * n + column];
    }
  }
  stripes[stripe][lane] = sum;
  __syncthreads();
  if (stripe != 0 || column >= n) return;
  for (int s = 1; s < 8; ++s) sum += stripes[s][lane];
  to[column] += sum;
}

template <bool Centred>
void forward(const char* name, Bf16* y, float* mean, float* scale, const Bf16* x, const Bf16* gain,
             const Bf16* bias, std::int64_t m, std::int64_t n, float epsilon, Stream stream) {
  vectors_of(name, m, n);
  const RowPlan plan = plan_row(name, n);
  const auto kernel = plan.passes == 1   ? norm_forward<1, Centred>
                      : plan.passes == 2 ? norm_forward<2, Centred>
                                         : norm_forward<4, Centred>;
  kernel<<<static_cast<unsigned>(m), plan.threads, 0, stream>>>(
      y, mean, scale, x, gain, bias, static_cast<int>(n / kLanes), epsilon);
  check_launch(name);
}

template <bool Centred>
void backward(const char* name, Bf16* dx, float* d_gain, float* d_bias, float* scratch,
              const Bf16* dy, const Bf16* x, const float* mean, const float* scale,
              const Bf16* gain, std::int64_t m, std::int64_t n, Stream stream) {
  vectors_of(name, m, n);
  const RowPlan plan = plan_row(name, n);
  const auto kernel = plan.passes == 1   ? norm_backward<1, Centred>
                      : plan.passes == 2 ? norm_backward<2, Centred>
                                         : norm_backward<4, Centred>;
  int resident = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, plan.threads, 0), name);
  const int most = sm_count() * (resident < kBlocksPerSm ? resident : kBlocksPerSm);
  const int blocks = m < most ? static_cast<int>(m) : most;
  kernel<<<blocks, plan.threads, 0, stream>>>(dx, scratch, dy, x, mean, scale, gain,
                                              static_cast<int>(n / kLanes), m);
  check_launch(name);
  const dim3 grid(blocks_for(static_cast<std::uint32_t>(n), kWarp), Centred ? 2 : 1);
  add_partials<<<grid, 8 * kWarp, 0, stream>>>(d_gain, d_bias, scratch, blocks,
                                               static_cast<int>(n));
  check_launch(name);
}

}  // namespace

std::int64_t norm_scratch(std::int64_t n) {
  return std::int64_t{2} * sm_count() * kBlocksPerSm * n;
}

void rms_norm(Bf16* y, float* scale, const Bf16* x, const Bf16* gain, std::int64_t m,
              std::int64_t n, float epsilon, Stream stream) {
  forward<false>("rms_norm", y, nullptr, scale, x, gain, nullptr, m, n, epsilon, stream);
}

void rms_norm_backward(Bf16* dx, float* d_gain, float* scratch, const Bf16* dy, const Bf16* x,
                       const float* scale, const Bf16* gain, std::int64_t m, std::int64_t n,
                       Stream stream) {
  backward<false>("rms_norm_backward", dx, d_gain, nullptr, scratch, dy, x, nullptr, scale, gain, m,
                  n, stream);
}

void layer_norm(Bf16* y, float* mean, float* scale, const Bf16* x, const Bf16* gain,
                const Bf16* bias, std::int64_t m, std::int64_t n, float epsilon, Stream stream) {
  forward<true>("layer_norm", y, mean, scale, x, gain, bias, m, n, epsilon, stream);
}

void layer_norm_backward(Bf16* dx, float* d_gain, float* d_bias, float* scratch, const Bf16* dy,
                         const Bf16* x, const float* mean, const float* scale, const Bf16* gain,
                         std::int64_t m, std::int64_t n, Stream stream) {
  backward<true>("layer_norm_backward", dx, d_gain, d_bias, scratch, dy, x, mean, scale, gain, m, n,
                 stream);
}

}  // namespace steploom::kernels
