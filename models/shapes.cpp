#include "models/shapes.h"

#include <utility>

namespace steploom {
namespace {

double as_double(std::int64_t v) {
  return static_cast<double>(v);
}

}  // namespace

Work product(Phase phase, Precision p, std::int64_t m, std::int64_t n, std::int64_t k) {
  return grouped_product(phase, p, 0, m, n, k);
}

Work grouped_product(Phase phase, Precision p, std::int64_t groups, std::int64_t m, std::int64_t n,
                     std::int64_t k) {
  Work w;
  w.kind = groups > 0 ? OpKind::grouped_matmul : OpKind::matmul;
  w.phase = phase;
  w.precision = p;
  w.groups = groups > 0 ? groups : 1;
  w.flops = 2 * as_double(m) * as_double(n) * as_double(k);
  const Bytes e = bytes_of(p);
  const Bytes weights = w.groups * n * k;
  // A weight gradient reads and writes its fp32 accumulator.
  w.bytes = (m * k + m * n) * e + weights * (phase == Phase::weight_grad ? 8 : e);
  if (phase == Phase::data_grad) std::swap(n, k);
  if (phase == Phase::weight_grad) std::swap(m, k);
  w.m = m;
  w.n = n;
  w.k = k;
  return w;
}

Work batched_product(Phase phase, Precision p, std::int64_t heads, std::int64_t m, std::int64_t n,
                     std::int64_t k) {
  Work w;
  w.kind = OpKind::batched_matmul;
  w.phase = phase;
  w.precision = p;
  w.groups = heads;
  w.m = m;
  w.n = n;
  w.k = k;
  w.flops = 2 * as_double(m) * as_double(n) * as_double(k);
  w.bytes = (m * k + m * n + heads * n * k) * bytes_of(p);
  return w;
}

Work causal_attention(Phase phase, Precision p, const AttentionShape& a) {
  Work w;
  w.kind = OpKind::attention;
  w.phase = phase;
  w.precision = p;
  w.m = a.sequence;
  w.n = a.sequences;
  w.heads = a.heads;
  w.kv_heads = a.kv_heads;
  w.head_dim = a.head_dim;
  w.v_head_dim = a.v_head_dim;
  const double square = as_double(a.sequence) * as_double(a.sequence) * as_double(a.sequences);
  w.flops = square * a.heads * (a.head_dim + a.v_head_dim);
  const std::int64_t tokens = a.sequence * a.sequences;
  const std::int64_t widths = std::int64_t{a.heads} * (a.head_dim + a.v_head_dim) +
                              std::int64_t{a.kv_heads} * (a.head_dim + a.v_head_dim);
  w.bytes = tokens * widths * bytes_of(p);
  if (phase == Phase::data_grad) {
    w.flops *= 2.5;
    w.bytes *= 2;  // q, k, v, o and dO read; dQ, dK, dV written
  }
  return w;
}

Work streaming(OpKind kind, Phase phase, Precision p, std::int64_t m, std::int64_t n, Bytes bytes) {
  Work w;
  w.kind = kind;
  w.phase = phase;
  w.precision = p;
  w.m = m;
  w.n = n;
  w.bytes = bytes;
  return w;
}

Work communication(OpKind kind, Phase phase, Bytes bytes) {
  Work w;
  w.kind = kind;
  w.phase = phase;
  w.bytes = bytes;
  return w;
}

}  // namespace steploom
