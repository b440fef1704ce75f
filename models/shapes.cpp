#include "models/shapes.h"

#include <cassert>
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

Work as_fresh(Work w) {
  const Bytes weights = w.groups * w.m * w.n;
  if (!w.fresh) w.bytes += weights * (bytes_of(w.precision) - 8);
  w.fresh = true;
  return w;
}

Work grouped_product(Phase phase, Precision p, std::int64_t groups, std::int64_t m, std::int64_t n,
                     std::int64_t k) {
  Work w;
  w.kind = groups > 0 ? OpKind::grouped_matmul : OpKind::matmul;
  w.phase = phase;
  w.precision = p;
  w.groups = groups > 0 ? groups : 1;
  w.flops = 2 * as_double(m) * as_double(n) * as_double(k);
  const Bytes e = operand_bytes(p);
  const Bytes out = bytes_of(p);
  const Bytes weights = w.groups * n * k;
  // A weight gradient reads and writes its fp32 accumulator.
  w.bytes = phase == Phase::weight_grad ? (m * k + m * n) * e + weights * 8
            : phase == Phase::forward   ? (m * k + weights) * e + m * n * out
                                        : (m * n + weights) * e + m * k * out;
  if (phase == Phase::data_grad) std::swap(n, k);
  if (phase == Phase::weight_grad) std::swap(m, k);
  w.m = m;
  w.n = n;
  w.k = k;
  return w;
}

double mean_keys(const AttentionShape& a) {
  const std::int64_t whole_sequence = a.keys > 0 ? a.keys : a.sequence;
  const double s = as_double(whole_sequence);
  if (a.both_ways) return s;
  if (a.window == 0 || a.window >= whole_sequence) return s / 2;
  const double w = as_double(a.window);
  if (!a.chunked) return w - w * w / (2 * s);
  const double whole = as_double(whole_sequence / a.window);
  const double rest = as_double(whole_sequence % a.window);
  return (whole * w * w + rest * rest) / (2 * s);
}

AttentionShape attention_shape(const Work& w) {
  return {w.m,          w.n,      w.heads,   w.kv_heads,  w.head_dim,
          w.v_head_dim, w.window, w.chunked, w.both_ways, w.keys};
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
  const std::int64_t keys = a.keys > 0 ? a.keys : a.sequence;
  if (a.window > 0 && a.window < keys) {
    w.window = a.window;
    w.chunked = a.chunked;
  }
  w.both_ways = a.both_ways;
  w.keys = a.keys;
  const double pairs = as_double(a.sequence) * 2 * mean_keys(a);
  w.flops = pairs * as_double(a.sequences) * a.heads * (a.head_dim + a.v_head_dim);
  const std::int64_t widths = a.head_dim + a.v_head_dim;
  w.bytes = (a.sequence * a.heads + keys * a.kv_heads) * a.sequences * widths * bytes_of(p);
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

Work joined(const Work& part, int parts) {
  Work w = part;
  w.flops *= parts;
  w.bytes *= parts;
  if (is_communication(w.kind)) return w;
  const bool product = w.kind == OpKind::matmul || w.kind == OpKind::grouped_matmul;
  const bool weight_grad = product && w.phase == Phase::weight_grad;
  if (product) {  // the weights are not cut
    const Bytes weights =
        weight_grad ? w.groups * w.m * w.n * 8 : w.groups * w.n * w.k * operand_bytes(w.precision);
    w.bytes -= (parts - 1) * weights;
  }
  (weight_grad ? w.k : w.kind == OpKind::attention ? w.n : w.m) *= parts;
  if (w.kind == OpKind::batched_matmul) w.groups *= parts;
  return w;
}

Work part_of(const Work& whole, int parts) {
  assert(whole.phase == Phase::forward);
  Work w = whole;
  w.flops /= parts;
  const bool product = w.kind == OpKind::matmul || w.kind == OpKind::grouped_matmul;
  const Bytes weights = product ? w.groups * w.n * w.k * operand_bytes(w.precision) : 0;
  w.bytes = (w.bytes - weights) / parts + weights;
  if (is_communication(w.kind)) return w;
  (w.kind == OpKind::attention ? w.n : w.m) /= parts;
  if (w.kind == OpKind::batched_matmul) w.groups /= parts;
  return w;
}

std::int64_t rows_to_cut(const Work& w) {
  if (is_communication(w.kind)) return 0;
  if (w.kind == OpKind::batched_matmul) return w.groups;
  return w.kind == OpKind::attention ? w.n : w.m;
}

Work communication(OpKind kind, Phase phase, Bytes bytes) {
  Work w;
  w.kind = kind;
  w.phase = phase;
  w.bytes = bytes;
  return w;
}

Work expert_exchange(ExpertExchange way, Phase phase, Precision p, std::int64_t tokens,
                     std::int64_t width, std::int64_t experts, std::int64_t choices, int node_limit,
                     Bytes bytes) {
  Work w = communication(OpKind::all_to_all, phase, bytes);
  w.precision = p;
  w.m = tokens;
  w.n = width;
  w.k = choices;
  w.groups = experts;
  w.exchange = way;
  w.node_limit = node_limit;
  return w;
}

Work exchange_step(Phase phase, Bytes bytes, int step, int steps) {
  Work w = communication(OpKind::all_to_all, phase, bytes / steps);
  w.exchange = ExpertExchange::step;
  w.k = step;
  w.groups = steps;
  return w;
}

}  // namespace steploom
