// Products, attention, norms, activations, embedding and loss in float64, by their definitions.
#include <cmath>

#include "profiler/reference_kernels.h"

namespace steploom {
namespace {

using View = ReferenceKernels::View;

struct Dims {
  std::int64_t rows, outputs, inputs;
};

// One linear layer; views begin at its rows and weights.
void linear(Phase phase, const View& result, const View& a, const View& b, const Dims& d) {
  switch (phase) {
    case Phase::forward:  // y = x·Wᵀ
      for (std::int64_t r = 0; r < d.rows; ++r)
        for (std::int64_t o = 0; o < d.outputs; ++o) {
          double sum = 0;
          for (std::int64_t i = 0; i < d.inputs; ++i) sum += a(r, i) * b(o, i);
          result(r, o) = sum;
        }
      break;
    case Phase::data_grad:  // dx = dy·W
      for (std::int64_t r = 0; r < d.rows; ++r) {
        for (std::int64_t i = 0; i < d.inputs; ++i) result(r, i) = 0;
        for (std::int64_t o = 0; o < d.outputs; ++o)
          for (std::int64_t i = 0; i < d.inputs; ++i) result(r, i) += a(r, o) * b(o, i);
      }
      break;
    default:  // dW += dyᵀ·x
      for (std::int64_t r = 0; r < d.rows; ++r)
        for (std::int64_t o = 0; o < d.outputs; ++o)
          for (std::int64_t i = 0; i < d.inputs; ++i) result(o, i) += b(r, o) * a(r, i);
  }
}

Dims dims(Phase phase, const TensorRef& result, const TensorRef& a, const TensorRef& b) {
  switch (phase) {
    case Phase::forward:
      return {a.rows, result.width, a.width};
    case Phase::data_grad:
      return {a.rows, a.width, result.width};
    default:
      return {a.rows, b.width, a.width};
  }
}

double silu_slope(double x) {
  const double s = 1 / (1 + std::exp(-x));
  return s * (1 + x * (1 - s));
}

constexpr double kGeluCubic = 0.044715;
double gelu_inner(double x) {
  return std::sqrt(2 / M_PI) * (x + kGeluCubic * x * x * x);
}

double gelu_slope(double x) {
  const double t = std::tanh(gelu_inner(x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * kGeluCubic * x * x);
}

// Where q, k and v of a token's head lie in its row.
struct QkvColumns {
  const AttentionSizes& s;
  std::int64_t q(int head) const { return std::int64_t{head} * s.head_dim; }
  std::int64_t k(int head) const {
    return std::int64_t{s.heads + head / (s.heads / s.kv_heads)} * s.head_dim;
  }
  std::int64_t v(int head) const {
    return std::int64_t{s.heads + s.kv_heads} * s.head_dim +
           std::int64_t{head / (s.heads / s.kv_heads)} * s.v_head_dim;
  }
};

}  // namespace

void ReferenceKernels::launch(const Linear& c, int) {
  const Dims d = dims(c.phase, c.result, c.a, c.b);
  const View result = view(c.result), b = view(c.b);
  linear(c.phase, result, view(c.a), b, d);
  if (!c.bias) return;
  const View bias = view(c.bias);
  for (std::int64_t r = 0; r < d.rows; ++r)
    for (std::int64_t o = 0; o < d.outputs; ++o) {
      if (c.phase == Phase::forward)
        result(r, o) += bias[o];
      else
        bias[o] += b(r, o);
    }
}

void ReferenceKernels::launch(const ExpertLinear& c, int) {
  const auto run = [&](const TensorRef& t, std::int64_t e) {
    const std::int64_t each = t.rows / c.experts;
    return t.slice(e * each, each);
  };
  for (std::int64_t e = 0; e < c.experts; ++e) {
    const TensorRef result = run(c.result, e), a = run(c.a, e), b = run(c.b, e);
    linear(c.phase, view(result), view(a), view(b), dims(c.phase, result, a, b));
  }
}

void ReferenceKernels::launch(const Attention& c, int) {
  const AttentionSizes& s = c.sizes;
  const QkvColumns at{s};
  const View qkv = view(c.qkv), out = view(c.out), log_sum = view(c.log_sum);
  const double scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  std::vector<double> p(static_cast<std::size_t>(s.sequence));
  for (std::int64_t b = 0; b < s.sequences; ++b)
    for (int head = 0; head < s.heads; ++head)
      for (std::int64_t i = 0; i < s.sequence; ++i) {
        const std::int64_t row = b * s.sequence + i;
        double most = -HUGE_VAL, sum = 0;
        for (std::int64_t j = 0; j <= i; ++j) {
          double score = 0;
          for (int d = 0; d < s.head_dim; ++d)
            score += qkv(row, at.q(head) + d) * qkv(b * s.sequence + j, at.k(head) + d);
          p[static_cast<std::size_t>(j)] = score * scale;
          most = std::max(most, score * scale);
        }
        for (std::int64_t j = 0; j <= i; ++j)
          sum += std::exp(p[static_cast<std::size_t>(j)] - most);
        log_sum(b * s.heads + head, i) = most + std::log(sum);
        for (int d = 0; d < s.v_head_dim; ++d) {
          double y = 0;
          for (std::int64_t j = 0; j <= i; ++j)
            y += std::exp(p[static_cast<std::size_t>(j)] - most) / sum *
                 qkv(b * s.sequence + j, at.v(head) + d);
          out(row, std::int64_t{head} * s.v_head_dim + d) = y;
        }
      }
}

void ReferenceKernels::launch(const AttentionBackward& c, int) {
  const AttentionSizes& s = c.sizes;
  const QkvColumns at{s};
  const View qkv = view(c.qkv), out = view(c.out), log_sum = view(c.log_sum), d_out = view(c.d_out),
             d_qkv = view(c.d_qkv);
  const double scale = 1 / std::sqrt(static_cast<double>(s.head_dim));
  for (std::int64_t i = 0; i < c.d_qkv.elements(); ++i) d_qkv[i] = 0;
  for (std::int64_t b = 0; b < s.sequences; ++b)
    for (int head = 0; head < s.heads; ++head)
      for (std::int64_t i = 0; i < s.sequence; ++i) {
        const std::int64_t row = b * s.sequence + i, o = std::int64_t{head} * s.v_head_dim;
        double along = 0;  // dout·out
        for (int d = 0; d < s.v_head_dim; ++d) along += d_out(row, o + d) * out(row, o + d);
        for (std::int64_t j = 0; j <= i; ++j) {
          const std::int64_t other = b * s.sequence + j;
          double score = 0, dp = 0;
          for (int d = 0; d < s.head_dim; ++d)
            score += qkv(row, at.q(head) + d) * qkv(other, at.k(head) + d);
          const double p = std::exp(score * scale - log_sum(b * s.heads + head, i));
          for (int d = 0; d < s.v_head_dim; ++d) {
            dp += d_out(row, o + d) * qkv(other, at.v(head) + d);
            d_qkv(other, at.v(head) + d) += p * d_out(row, o + d);
          }
          const double ds = p * (dp - along) * scale;
          for (int d = 0; d < s.head_dim; ++d) {
            d_qkv(row, at.q(head) + d) += ds * qkv(other, at.k(head) + d);
            d_qkv(other, at.k(head) + d) += ds * qkv(row, at.q(head) + d);
          }
        }
      }
}

void ReferenceKernels::launch(const Rotary& c, int) {
  const View y = view(c.y), x = view(c.x), table = view(c.table);
  const int half = c.head_dim / 2;
  for (std::int64_t r = 0; r < c.x.rows; ++r) {
    const std::int64_t position = r % c.positions;
    for (int head = 0; head < c.heads; ++head)
      for (int i = 0; i < half; ++i) {
        const std::int64_t a = std::int64_t{head} * c.head_dim + i, b = a + half;
        const double cosine = table(position, 2 * i);
        const double sine = (c.backward ? -1 : 1) * table(position, 2 * i + 1);
        y(r, a) = x(r, a) * cosine - x(r, b) * sine;
        y(r, b) = x(r, b) * cosine + x(r, a) * sine;
      }
    for (std::int64_t i = std::int64_t{c.heads} * c.head_dim; i < c.x.width; ++i) y(r, i) = x(r, i);
  }
}

void ReferenceKernels::launch(const Norm& c, int) {
  const View y = view(c.y), x = view(c.x), gain = view(c.gain), scale = view(c.scale);
  const std::int64_t n = c.x.width;
  for (std::int64_t r = 0; r < c.x.rows; ++r) {
    double mean = 0, square = 0;
    if (c.bias) {
      for (std::int64_t i = 0; i < n; ++i) mean += x(r, i) / static_cast<double>(n);
      view(c.mean)[r] = mean;
    }
    for (std::int64_t i = 0; i < n; ++i)
      square += (x(r, i) - mean) * (x(r, i) - mean) / static_cast<double>(n);
    scale[r] = 1 / std::sqrt(square + c.epsilon);
    for (std::int64_t i = 0; i < n; ++i)
      y(r, i) = (x(r, i) - mean) * scale[r] * gain[i] + (c.bias ? view(c.bias)[i] : 0.0);
  }
}

// With x̂ the normalised row and g = dy·gain: dx = (g − [mean g] − x̂·mean(g·x̂))·scale.
void ReferenceKernels::launch(const NormBackward& c, int) {
  const View dx = view(c.dx), dy = view(c.dy), x = view(c.x), gain = view(c.gain),
             scale = view(c.scale), d_gain = view(c.d_gain);
  const std::int64_t n = c.x.width;
  for (std::int64_t r = 0; r < c.x.rows; ++r) {
    const double mean = c.mean ? view(c.mean)[r] : 0;
    double along = 0, shift = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double hat = (x(r, i) - mean) * scale[r];
      d_gain[i] += dy(r, i) * hat;
      if (c.d_bias) view(c.d_bias)[i] += dy(r, i);
      along += dy(r, i) * gain[i] * hat / static_cast<double>(n);
      if (c.mean) shift += dy(r, i) * gain[i] / static_cast<double>(n);
    }
    for (std::int64_t i = 0; i < n; ++i)
      dx(r, i) = (dy(r, i) * gain[i] - shift - (x(r, i) - mean) * scale[r] * along) * scale[r];
  }
}

void ReferenceKernels::launch(const Activation& c, int) {
  const View y = view(c.y), x = view(c.x);
  const std::int64_t n = c.y.width;
  for (std::int64_t r = 0; r < c.y.rows; ++r)
    for (std::int64_t i = 0; i < n; ++i)
      y(r, i) = c.gated ? x(r, i) / (1 + std::exp(-x(r, i))) * x(r, n + i)
                        : 0.5 * x(r, i) * (1 + std::tanh(gelu_inner(x(r, i))));
}

void ReferenceKernels::launch(const ActivationBackward& c, int) {
  const View dx = view(c.dx), dy = view(c.dy), x = view(c.x);
  const std::int64_t n = c.dy.width;
  for (std::int64_t r = 0; r < c.dy.rows; ++r)
    for (std::int64_t i = 0; i < n; ++i) {
      if (!c.gated) {
        dx(r, i) = dy(r, i) * gelu_slope(x(r, i));
        continue;
      }
      dx(r, i) = dy(r, i) * x(r, n + i) * silu_slope(x(r, i));
      dx(r, n + i) = dy(r, i) * x(r, i) / (1 + std::exp(-x(r, i)));
    }
}

void ReferenceKernels::launch(const Add& c, int) {
  const View y = view(c.y), a = view(c.a), b = view(c.b);
  for (std::int64_t i = 0; i < c.y.elements(); ++i) y[i] = a[i] + b[i];
}

void ReferenceKernels::launch(const Embedding& c, int) {
  const View y = view(c.y), ids = view(c.ids), table = view(c.table);
  for (std::int64_t t = 0; t < c.y.rows; ++t) {
    const std::int64_t row = ids.index(t) - c.first_id;
    const bool here = row >= 0 && row < c.table.rows;
    for (std::int64_t i = 0; i < c.y.width; ++i) {
      y(t, i) = here ? table(row, i) : 0;
      if (c.positions) y(t, i) += view(c.positions)(t % c.sequence, i);
    }
  }
}

void ReferenceKernels::launch(const EmbeddingBackward& c, int) {
  const View dy = view(c.dy), ids = view(c.ids), table = view(c.d_table);
  for (std::int64_t t = 0; t < c.dy.rows; ++t) {
    const std::int64_t row = ids.index(t) - c.first_id;
    for (std::int64_t i = 0; i < c.dy.width; ++i) {
      if (row >= 0 && row < c.d_table.rows) table(row, i) += dy(t, i);
      if (c.d_positions) view(c.d_positions)(t % c.sequence, i) += dy(t, i);
    }
  }
}

void ReferenceKernels::launch(const CrossEntropySlice& c, int) {
  const View logits = view(c.logits), targets = view(c.targets), maximum = view(c.maximum),
             local = view(c.local);
  const std::int64_t n = c.logits.width;
  for (std::int64_t t = 0; t < c.logits.rows; ++t) {
    double most = logits(t, 0), sum = 0;
    for (std::int64_t i = 1; i < n; ++i) most = std::max(most, logits(t, i));
    for (std::int64_t i = 0; i < n; ++i) sum += std::exp(logits(t, i) - most);
    const std::int64_t target = targets.index(t) - c.first_id;
    maximum[t] = local(t, 0) = most;
    local(t, 1) = sum;
    local(t, 2) = target >= 0 && target < n ? logits(t, target) : 0;
  }
}

void ReferenceKernels::launch(const CrossEntropySums& c, int) {
  const View sums = view(c.sums), local = view(c.local), maximum = view(c.maximum);
  for (std::int64_t t = 0; t < c.sums.rows; ++t) {
    sums(t, 0) = local(t, 1) * std::exp(local(t, 0) - maximum[t]);
    sums(t, 1) = local(t, 2);
  }
}

void ReferenceKernels::launch(const CrossEntropyEnd& c, int) {
  const View log_sum = view(c.log_sum), loss = view(c.loss), maximum = view(c.maximum),
             sums = view(c.sums);
  for (std::int64_t t = 0; t < c.sums.rows; ++t) {
    log_sum[t] = maximum[t] + std::log(sums(t, 0));
    loss[t] = log_sum[t] - sums(t, 1);
  }
}

void ReferenceKernels::launch(const CrossEntropy& c, int) {
  const View log_sum = view(c.log_sum), loss = view(c.loss), logits = view(c.logits),
             targets = view(c.targets);
  for (std::int64_t t = 0; t < c.logits.rows; ++t) {
    double most = logits(t, 0), sum = 0;
    for (std::int64_t i = 1; i < c.logits.width; ++i) most = std::max(most, logits(t, i));
    for (std::int64_t i = 0; i < c.logits.width; ++i) sum += std::exp(logits(t, i) - most);
    log_sum[t] = most + std::log(sum);
    loss[t] = log_sum[t] - logits(t, targets.index(t));
  }
}

void ReferenceKernels::launch(const CrossEntropyBackward& c, int) {
  const View logits = view(c.logits), log_sum = view(c.log_sum), targets = view(c.targets);
  for (std::int64_t t = 0; t < c.logits.rows; ++t)
    for (std::int64_t i = 0; i < c.logits.width; ++i) {
      const double target = targets.index(t) - c.first_id == i ? 1 : 0;
      logits(t, i) = (std::exp(logits(t, i) - log_sum[t]) - target) * c.factor;
    }
}

}  // namespace steploom
