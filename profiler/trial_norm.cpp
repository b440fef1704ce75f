#include <cmath>
#include <memory>

#include "profiler/kernels.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

constexpr float kEpsilon = 1e-5F;

struct Tensors {
  std::int64_t m, n;
  int sets;
  bool centred;
  Slab<Bf16> x, y, dy, dx, gain, bias;
  Slab<float> mean, scale, d_gain, d_bias, scratch;

  Tensors(const Work& w, bool layer, bool backward, Bytes rotate)
      : m(w.m),
        n(w.n),
        sets(sets_for(w.bytes, rotate)),
        centred(layer),
        x(m * n, sets),
        y(backward ? 0 : m * n, sets),
        dy(backward ? m * n : 0, sets),
        dx(backward ? m * n : 0, sets),
        gain(n, 1),
        bias(n, 1),
        mean(m, sets),
        scale(m, sets),
        d_gain(n, 1),
        d_bias(n, 1),
        scratch(backward ? kernels::norm_scratch(n) : 0, 1) {
    x.randomize(1, 1);
    dy.randomize(2, 1);
    gain.randomize(3, 1);
    bias.randomize(4, 1);
    mean.randomize(5, 0.1F);
    scale.randomize_positive(6);
    d_gain.randomize(7, 1);
    d_bias.randomize(8, 1);
  }

  void forward(int s, Stream stream) const {
    if (centred) {
      kernels::layer_norm(y.at(s), mean.at(s), scale.at(s), x.at(s), gain.at(0), bias.at(0), m, n,
                          kEpsilon, stream);
    } else {
      kernels::rms_norm(y.at(s), scale.at(s), x.at(s), gain.at(0), m, n, kEpsilon, stream);
    }
  }
  void backward(int s, Stream stream) const {
    if (centred) {
      kernels::layer_norm_backward(dx.at(s), d_gain.at(0), d_bias.at(0), scratch.at(0), dy.at(s),
                                   x.at(s), mean.at(s), scale.at(s), gain.at(0), m, n, stream);
    } else {
      kernels::rms_norm_backward(dx.at(s), d_gain.at(0), scratch.at(0), dy.at(s), x.at(s),
                                 scale.at(s), gain.at(0), m, n, stream);
    }
  }
};

std::string prove_forward(const Tensors& t, Stream stream) {
  t.y.spoil(stream);
  t.scale.spoil(stream);
  t.forward(0, stream);
  Proof proof(0.006, 0.004);
  proof.expect_written(t.y, stream);
  proof.expect_written(t.scale, stream);
  const std::vector<double> gain = row_of(t.gain, 0, t.n);
  const std::vector<double> bias = row_of(t.bias, 0, t.n);
  for (const std::int64_t row : sampled_rows(t.m)) {
    const std::vector<double> x = row_of(t.x, row, t.n);
    const std::vector<double> y = row_of(t.y, row, t.n);
    double mean = 0;
    double square = 0;
    if (t.centred) {
      for (const double v : x) mean += v / static_cast<double>(t.n);
    }
    for (const double v : x) square += (v - mean) * (v - mean) / static_cast<double>(t.n);
    const double scale = 1 / std::sqrt(square + static_cast<double>(kEpsilon));
    proof.expect(static_cast<double>(t.scale.read(row, 1)[0]), scale, "scale", row, 0);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = (x[i] - mean) * scale * gain[i] + (t.centred ? bias[i] : 0);
      proof.expect(y[i], want, "y", row, static_cast<std::int64_t>(i));
    }
  }
  return proof.fault();
}

std::string prove_backward(const Tensors& t, Stream stream) {
  const std::vector<float> gain_before = t.d_gain.read(0, t.n);
  const std::vector<float> bias_before = t.d_bias.read(0, t.n);
  t.dx.spoil(stream);
  t.backward(0, stream);
  Proof proof(0.006, 0.01);
  proof.expect_written(t.dx, stream);
  const std::vector<double> gain = row_of(t.gain, 0, t.n);
  const auto width = static_cast<double>(t.n);
  for (const std::int64_t row : sampled_rows(t.m)) {
    std::vector<double> hat = row_of(t.x, row, t.n);
    const std::vector<double> dy = row_of(t.dy, row, t.n);
    const std::vector<double> dx = row_of(t.dx, row, t.n);
    const double mean = t.centred ? static_cast<double>(t.mean.read(row, 1)[0]) : 0;
    const double scale = static_cast<double>(t.scale.read(row, 1)[0]);
    double along = 0;
    double shift = 0;
    for (std::size_t i = 0; i < hat.size(); ++i) {
      hat[i] = (hat[i] - mean) * scale;
      along += dy[i] * gain[i] * hat[i] / width;
      if (t.centred) shift += dy[i] * gain[i] / width;
    }
    for (std::size_t i = 0; i < hat.size(); ++i) {
      proof.expect(dx[i], (dy[i] * gain[i] - shift - hat[i] * along) * scale, "dx", row,
                   static_cast<std::int64_t>(i));
    }
  }
  // The gradients of gain and bias go over all rows: one vector of columns at either end.
  const std::vector<float> mean = t.mean.read(0, t.m);
  const std::vector<float> scale = t.scale.read(0, t.m);
  Proof sums(1e-4, 2e-3 * std::sqrt(static_cast<double>(t.m)));
  for (const std::int64_t column : {std::int64_t{0}, t.n - 1}) {
    double d_gain = static_cast<double>(gain_before[static_cast<std::size_t>(column)]);
    double d_bias = static_cast<double>(bias_before[static_cast<std::size_t>(column)]);
    const std::int64_t most = 512;  // rows that are worth a copy each
    if (t.m > most) break;
    for (std::int64_t row = 0; row < t.m; ++row) {
      const auto r = static_cast<std::size_t>(row);
      const auto x = static_cast<double>(to_float(t.x.read(row * t.n + column, 1)[0]));
      const auto d = static_cast<double>(to_float(t.dy.read(row * t.n + column, 1)[0]));
      d_gain +=
          d * (x - (t.centred ? static_cast<double>(mean[r]) : 0)) * static_cast<double>(scale[r]);
      d_bias += d;
    }
    sums.expect(static_cast<double>(t.d_gain.read(column, 1)[0]), d_gain, "d_gain", 0, column);
    if (t.centred) {
      sums.expect(static_cast<double>(t.d_bias.read(column, 1)[0]), d_bias, "d_bias", 0, column);
    }
  }
  return proof.fault().empty() ? sums.fault() : proof.fault();
}

}  // namespace

Trial norm_trial(const Ask& ask, Bytes rotate) {
  const bool backward = ask.work.phase == Phase::data_grad;
  const auto tensors =
      std::make_shared<const Tensors>(ask.work, ask.provider == "steploom-layer", backward, rotate);
  Trial trial;
  trial.sets = tensors->sets;
  if (backward) {
    trial.launch = [tensors](int set, Stream stream) { tensors->backward(set, stream); };
    trial.prove = [tensors](Stream stream) { return prove_backward(*tensors, stream); };
  } else {
    trial.launch = [tensors](int set, Stream stream) { tensors->forward(set, stream); };
    trial.prove = [tensors](Stream stream) { return prove_forward(*tensors, stream); };
  }
  return trial;
}

}  // namespace steploom
