// Element by element: gated and plain activations, residual sums, rotary positions.
#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

constexpr int kVectorsPerThread = 2;  // independent loads in flight

__device__ float sigmoid(float x) {
  return __fdividef(1.0F, 1.0F + __expf(-x));
}

// The tanh form: x · sigmoid(2u), u = √(2/π)·(x + 0.044715x³).
constexpr float kGeluSlope = 1.5957691216F;  // 2·√(2/π)
constexpr float kGeluCube = 0.044715F;

struct Swiglu {
  Bf16* y;
  const Bf16* gate_up;
  std::uint32_t row_vectors;
  __device__ void operator()(std::uint32_t v) const {
    const std::int64_t row = v / row_vectors;
    const Bf16* gate = gate_up + (static_cast<std::int64_t>(v) + row * row_vectors) * kLanes;
    const Floats g = load(gate);
    const Floats u = load(gate + static_cast<std::int64_t>(row_vectors) * kLanes);
    Floats out;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) out.v[i] = g.v[i] * sigmoid(g.v[i]) * u.v[i];
    store(y + static_cast<std::int64_t>(v) * kLanes, out);
  }
};

struct SwigluBackward {
  Bf16* d_gate_up;
  const Bf16* dy;
  const Bf16* gate_up;
  std::uint32_t row_vectors;
  __device__ void operator()(std::uint32_t v) const {
    const std::int64_t row = v / row_vectors;
    const std::int64_t gate = (static_cast<std::int64_t>(v) + row * row_vectors) * kLanes;
    const std::int64_t up = gate + static_cast<std::int64_t>(row_vectors) * kLanes;
    const Floats g = load(gate_up + gate);
    const Floats u = load(gate_up + up);
    const Floats d = load(dy + static_cast<std::int64_t>(v) * kLanes);
    Floats dg;
    Floats du;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      const float s = sigmoid(g.v[i]);
      du.v[i] = d.v[i] * g.v[i] * s;
      dg.v[i] = d.v[i] * u.v[i] * s * (1.0F + g.v[i] * (1.0F - s));
    }
    store(d_gate_up + gate, dg);
    store(d_gate_up + up, du);
  }
};

struct Gelu {
  Bf16* y;
  const Bf16* x;
  __device__ void operator()(std::uint32_t v) const {
    Floats f = load(x + static_cast<std::int64_t>(v) * kLanes);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      const float a = f.v[i];
      f.v[i] = a * sigmoid(kGeluSlope * (a + kGeluCube * a * a * a));
    }
    store(y + static_cast<std::int64_t>(v) * kLanes, f);
  }
};

struct GeluBackward {
  Bf16* dx;
  const Bf16* dy;
  const Bf16* x;
  __device__ void operator()(std::uint32_t v) const {
    const Floats f = load(x + static_cast<std::int64_t>(v) * kLanes);
    Floats d = load(dy + static_cast<std::int64_t>(v) * kLanes);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      const float a = f.v[i];
      const float s = sigmoid(kGeluSlope * (a + kGeluCube * a * a * a));
      const float slope = kGeluSlope * (1.0F + 3.0F * kGeluCube * a * a);
      d.v[i] *= s + a * s * (1.0F - s) * slope;
    }
    store(dx + static_cast<std::int64_t>(v) * kLanes, d);
  }
};

struct Residual {
  Bf16* y;
  const Bf16* a;
  const Bf16* b;
  __device__ void operator()(std::uint32_t v) const {
    Floats f = load(a + static_cast<std::int64_t>(v) * kLanes);
    const Floats g = load(b + static_cast<std::int64_t>(v) * kLanes);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) f.v[i] += g.v[i];
    store(y + static_cast<std::int64_t>(v) * kLanes, f);
  }
};

template <class Body>
__global__ void for_each_vector(Body body, std::uint32_t vectors) {
  const std::uint32_t begin = blockIdx.x * (kThreads * kVectorsPerThread) + threadIdx.x;
#pragma unroll
  for (int p = 0; p < kVectorsPerThread; ++p) {
    const std::uint32_t v = begin + static_cast<std::uint32_t>(p * kThreads);
    if (v < vectors) body(v);
  }
}

template <class Body>
void launch(const char* name, const Body& body, std::uint32_t vectors, Stream stream) {
  for_each_vector<<<blocks_for(vectors, kThreads * kVectorsPerThread), kThreads, 0, stream>>>(
      body, vectors);
  check_launch(name);
}

constexpr int kHeadsPerThread = 4;  // share one reading of the cosines and sines
constexpr int kCopiesPerThread = 2 * kHeadsPerThread;

// Threads of one row: those that turn heads, then those that copy what lies behind the heads.
struct RotaryThreads {
  std::uint32_t turning, copying;
  std::uint32_t row_vectors, head_vectors;  // in a row, and of them in heads
};

// A thread turns eight pairs of up to four neighbouring heads of one row, or copies.
__global__ void rotate(Bf16* y, const Bf16* x, const float* cos_sin, std::uint32_t threads,
                       std::uint32_t positions, RotaryThreads own, int heads, int head_dim,
                       float direction) {
  const std::uint32_t t = blockIdx.x * blockDim.x + threadIdx.x;
  if (t >= threads) return;
  const std::uint32_t row = t / (own.turning + own.copying);
  const std::uint32_t place = t - row * (own.turning + own.copying);
  const std::int64_t row_begin = static_cast<std::int64_t>(row) * own.row_vectors;
  if (place >= own.turning) {
    std::uint32_t v = own.head_vectors + place - own.turning;
#pragma unroll
    for (int i = 0; i < kCopiesPerThread; ++i, v += own.copying) {
      if (v >= own.row_vectors) continue;
      reinterpret_cast<uint4*>(y)[row_begin + v] = reinterpret_cast<const uint4*>(x)[row_begin + v];
    }
    return;
  }
  const auto half_vectors = static_cast<std::uint32_t>(head_dim / 2 / kLanes);
  const std::uint32_t column = place % half_vectors;
  const std::uint32_t group = place / half_vectors;
  const float* table =
      cos_sin + (static_cast<std::int64_t>(row % positions) * half_vectors + column) * (2 * kLanes);
  const Floats low = load(table);
  const Floats high = load(table + kLanes);
  const int first = static_cast<int>(group) * kHeadsPerThread;
#pragma unroll
  for (int h = first; h < first + kHeadsPerThread; ++h) {
    if (h >= heads) continue;
    const std::int64_t at = row_begin * kLanes + static_cast<std::int64_t>(h) * head_dim +
                            static_cast<std::int64_t>(column) * kLanes;
    Floats a = load(x + at);
    Floats b = load(x + at + head_dim / 2);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      const float c = i < 4 ? low.v[2 * i] : high.v[2 * i - 8];
      const float s = direction * (i < 4 ? low.v[2 * i + 1] : high.v[2 * i - 7]);
      const float from = a.v[i];
      a.v[i] = from * c - b.v[i] * s;
      b.v[i] = b.v[i] * c + from * s;
    }
    store(y + at, a);
    store(y + at + head_dim / 2, b);
  }
}

void rotate_rows(const char* name, Bf16* y, const Bf16* x, const float* cos_sin,
                 const RotaryShape& s, float direction, Stream stream) {
  const std::int64_t turned = std::int64_t{s.heads} * s.head_dim;
  const std::int64_t width = s.width == 0 ? turned : s.width;
  vectors_of(name, s.rows, width);
  if (s.head_dim % (2 * kLanes) != 0 || s.positions <= 0 || width < turned) {
    throw DeviceError(std::string(name) + ": head_dim must be a multiple of 16");
  }
  const int groups = (s.heads + kHeadsPerThread - 1) / kHeadsPerThread;
  RotaryThreads own{};
  own.row_vectors = static_cast<std::uint32_t>(width / kLanes);
  own.head_vectors = static_cast<std::uint32_t>(turned / kLanes);
  own.turning = static_cast<std::uint32_t>(groups * (s.head_dim / 2 / kLanes));
  if (y != x) own.copying = blocks_for(own.row_vectors - own.head_vectors, kCopiesPerThread);
  const auto threads = static_cast<std::uint32_t>(s.rows) * (own.turning + own.copying);
  rotate<<<blocks_for(threads, kThreads), kThreads, 0, stream>>>(
      y, x, cos_sin, threads, static_cast<std::uint32_t>(s.positions), own, s.heads, s.head_dim,
      direction);
  check_launch(name);
}

}  // namespace

void swiglu(Bf16* y, const Bf16* gate_up, std::int64_t m, std::int64_t n, Stream stream) {
  const std::uint32_t vectors = vectors_of("swiglu", m, n);
  launch("swiglu", Swiglu{y, gate_up, static_cast<std::uint32_t>(n / kLanes)}, vectors, stream);
}

void swiglu_backward(Bf16* d_gate_up, const Bf16* dy, const Bf16* gate_up, std::int64_t m,
                     std::int64_t n, Stream stream) {
  const std::uint32_t vectors = vectors_of("swiglu_backward", m, n);
  launch("swiglu_backward",
         SwigluBackward{d_gate_up, dy, gate_up, static_cast<std::uint32_t>(n / kLanes)}, vectors,
         stream);
}

void gelu(Bf16* y, const Bf16* x, std::int64_t m, std::int64_t n, Stream stream) {
  launch("gelu", Gelu{y, x}, vectors_of("gelu", m, n), stream);
}

void gelu_backward(Bf16* dx, const Bf16* dy, const Bf16* x, std::int64_t m, std::int64_t n,
                   Stream stream) {
  launch("gelu_backward", GeluBackward{dx, dy, x}, vectors_of("gelu_backward", m, n), stream);
}

void residual(Bf16* y, const Bf16* a, const Bf16* b, std::int64_t m, std::int64_t n,
              Stream stream) {
  launch("residual", Residual{y, a, b}, vectors_of("residual", m, n), stream);
}

void rotary(Bf16* y, const Bf16* x, const float* cos_sin, const RotaryShape& shape, Stream stream) {
  rotate_rows("rotary", y, x, cos_sin, shape, 1.0F, stream);
}

void rotary_backward(Bf16* dx, const Bf16* dy, const float* cos_sin, const RotaryShape& shape,
                     Stream stream) {
  rotate_rows("rotary_backward", dx, dy, cos_sin, shape, -1.0F, stream);
}

}  // namespace steploom::kernels
