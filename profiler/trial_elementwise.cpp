#include <cmath>
#include <memory>

#include "profiler/kernels.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

enum class Body { swiglu, gelu, residual, rotary };

constexpr std::int64_t kPositions = 4096;

struct Tensors {
  std::int64_t m, n;
  Body body;
  bool backward;
  int sets;
  kernels::RotaryShape shape;
  Slab<Bf16> first, second, result;  // swiglu and gelu: x and dy; residual: a and b
  Slab<float> cos_sin;

  Tensors(const Work& w, Body what, Bytes rotate)
      : m(w.m),
        n(w.n),
        body(what),
        backward(w.phase == Phase::data_grad),
        sets(sets_for(w.bytes, rotate)),
        shape{m, kPositions, static_cast<int>(what == Body::rotary ? n / w.k : 0),
              static_cast<int>(w.k)},
        first((what == Body::swiglu ? 2 : 1) * m * n, sets),
        second(what == Body::residual || (backward && what != Body::rotary) ? m * n : 0, sets),
        result((what == Body::swiglu && backward ? 2 : 1) * m * n, sets),
        cos_sin(what == Body::rotary ? kPositions * w.k : 0, 1) {
    if (what == Body::rotary && n % w.k != 0) throw DeviceError("rotary: n is no multiple of k");
    first.randomize(1, 4);
    second.randomize(2, 1);
    if (what != Body::rotary) return;
    std::vector<float> table;
    for (std::int64_t position = 0; position < kPositions; ++position) {
      for (std::int64_t i = 0; i < w.k / 2; ++i) {
        const double angle =
            static_cast<double>(position) *
            std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(w.k));
        table.push_back(static_cast<float>(std::cos(angle)));
        table.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    cos_sin.assign(table);
  }

  void run(int s, Stream stream) const {
    switch (body) {
      case Body::swiglu:
        if (backward)
          kernels::swiglu_backward(result.at(s), second.at(s), first.at(s), m, n, stream);
        else
          kernels::swiglu(result.at(s), first.at(s), m, n, stream);
        break;
      case Body::gelu:
        if (backward)
          kernels::gelu_backward(result.at(s), second.at(s), first.at(s), m, n, stream);
        else
          kernels::gelu(result.at(s), first.at(s), m, n, stream);
        break;
      case Body::residual:
        kernels::residual(result.at(s), first.at(s), second.at(s), m, n, stream);
        break;
      case Body::rotary:
        if (backward)
          kernels::rotary_backward(result.at(s), first.at(s), cos_sin.at(0), shape, stream);
        else
          kernels::rotary(result.at(s), first.at(s), cos_sin.at(0), shape, stream);
        break;
    }
  }
};

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

// GELU's tanh form and its derivative.
double gelu_of(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
}
double gelu_slope(double x) {
  const double root = std::sqrt(2 / std::acos(-1.0));
  const double t = std::tanh(root * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
}

// One row of the result from the same row of the operands.
std::vector<double> wanted(const Tensors& t, std::int64_t row, const std::vector<double>& a,
                           const std::vector<double>& b) {
  const auto n = static_cast<std::size_t>(t.n);
  std::vector<double> out(t.body == Body::swiglu && t.backward ? 2 * n : n);
  for (std::size_t i = 0; i < n; ++i) {
    if (t.body == Body::residual) out[i] = a[i] + b[i];
    if (t.body == Body::gelu) out[i] = t.backward ? b[i] * gelu_slope(a[i]) : gelu_of(a[i]);
    if (t.body == Body::swiglu) {
      const double s = sigmoid(a[i]);
      if (t.backward) {
        out[i] = b[i] * a[n + i] * s * (1 + a[i] * (1 - s));
        out[n + i] = b[i] * a[i] * s;
      } else {
        out[i] = a[i] * s * a[n + i];
      }
    }
  }
  if (t.body != Body::rotary) return out;
  const auto half = static_cast<std::size_t>(t.shape.head_dim / 2);
  const std::vector<float> table =
      t.cos_sin.read(row % kPositions * t.shape.head_dim, t.shape.head_dim);
  for (std::size_t head = 0; head < n; head += 2 * half) {
    for (std::size_t i = 0; i < half; ++i) {
      const auto c = static_cast<double>(table[2 * i]);
      const double s = static_cast<double>(table[2 * i + 1]) * (t.backward ? -1 : 1);
      out[head + i] = a[head + i] * c - a[head + half + i] * s;
      out[head + half + i] = a[head + half + i] * c + a[head + i] * s;
    }
  }
  return out;
}

std::string prove(const Tensors& t, Stream stream) {
  t.result.spoil(stream);
  t.run(0, stream);
  Proof proof(0.006, 0.003);
  proof.expect_written(t.result, stream);
  const std::int64_t in = t.first.count() / t.m;
  const std::int64_t out = t.result.count() / t.m;
  for (const std::int64_t row : sampled_rows(t.m)) {
    const std::vector<double> b =
        t.second.count() > 0 ? row_of(t.second, row, t.n) : std::vector<double>{};
    const std::vector<double> want = wanted(t, row, row_of(t.first, row, in), b);
    const std::vector<double> got = row_of(t.result, row, out);
    for (std::size_t i = 0; i < got.size(); ++i) {
      proof.expect(got[i], want[i], "result", row, static_cast<std::int64_t>(i));
    }
  }
  return proof.fault();
}

}  // namespace

Trial elementwise_trial(const Ask& ask, Bytes rotate) {
  const Body body = ask.work.kind == OpKind::rotary     ? Body::rotary
                    : ask.work.kind == OpKind::residual ? Body::residual
                    : ask.provider == "steploom-swiglu" ? Body::swiglu
                                                        : Body::gelu;
  const auto tensors = std::make_shared<const Tensors>(ask.work, body, rotate);
  Trial trial;
  trial.sets = tensors->sets;
  trial.launch = [tensors](int set, Stream stream) { tensors->run(set, stream); };
  trial.prove = [tensors](Stream stream) { return prove(*tensors, stream); };
  return trial;
}

}  // namespace steploom
