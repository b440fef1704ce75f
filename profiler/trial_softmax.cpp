#include <algorithm>
#include <cmath>
#include <memory>

#include "profiler/kernels.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

constexpr float kFactor = 0.5F;  // of the loss's gradient

struct RouterTensors {
  std::int64_t m;
  int n, k;
  int sets;
  bool backward;
  Slab<Bf16> logits, d_logits;
  Slab<float> scores, weight, d_weight;
  Slab<std::int32_t> chosen;

  RouterTensors(const Work& w, Bytes rotate)
      : m(w.m),
        n(static_cast<int>(w.n)),
        k(static_cast<int>(w.k)),
        sets(sets_for(w.bytes, rotate)),
        backward(w.phase == Phase::data_grad),
        logits(m * n, sets),
        d_logits(backward ? m * n : 0, sets),
        scores(m * n, backward ? 1 : sets),
        weight(m * k, sets),
        d_weight(m * k, sets),
        chosen(m * k, sets) {
    logits.randomize(1, 4);
    d_weight.randomize(2, 1);
    if (!backward) return;
    // What the forward kernel leaves behind.
    wait_for_device();
    for (int s = 0; s < sets; ++s) {
      kernels::router(scores.at(0), chosen.at(s), weight.at(s), logits.at(s), m, n, k, nullptr);
    }
  }

  void run(int s, Stream stream) const {
    if (backward) {
      kernels::router_backward(d_logits.at(s), d_weight.at(s), weight.at(s), chosen.at(s), m, n, k,
                               stream);
    } else {
      kernels::router(scores.at(s), chosen.at(s), weight.at(s), logits.at(s), m, n, k, stream);
    }
  }
};

// The k experts of the largest logits, of equals the lower, and softmax over all and over those.
struct Routing {
  std::vector<double> scores;
  std::vector<std::size_t> chosen;
  std::vector<double> weight;
};

Routing route(const std::vector<double>& logits, int k) {
  Routing r;
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double l : logits) sum += std::exp(l - most);
  for (const double l : logits) r.scores.push_back(std::exp(l - most) / sum);
  for (std::size_t e = 0; e < logits.size(); ++e) r.chosen.push_back(e);
  std::stable_sort(r.chosen.begin(), r.chosen.end(),
                   [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  r.chosen.resize(static_cast<std::size_t>(k));
  double kept = 0;
  for (const std::size_t e : r.chosen) kept += r.scores[e];
  for (const std::size_t e : r.chosen) r.weight.push_back(r.scores[e] / kept);
  return r;
}

std::string prove_router(const RouterTensors& t, Stream stream) {
  Proof proof(0.005, 1e-4);
  if (t.backward) {
    t.d_logits.spoil(stream);
    t.run(0, stream);
    proof.expect_written(t.d_logits, stream);
  } else {
    t.scores.spoil(stream);
    t.weight.spoil(stream);
    t.chosen.spoil(stream);
    t.run(0, stream);
    proof.expect_written(t.scores, stream);
    proof.expect_written(t.weight, stream);
  }
  for (const std::int64_t token : sampled_rows(t.m)) {
    const Routing want = route(row_of(t.logits, token, t.n), t.k);
    if (t.backward) {
      const std::vector<float> d = t.d_weight.read(token * t.k, t.k);
      double mean = 0;
      for (std::size_t j = 0; j < d.size(); ++j) mean += want.weight[j] * static_cast<double>(d[j]);
      std::vector<double> out(static_cast<std::size_t>(t.n), 0);
      for (std::size_t j = 0; j < d.size(); ++j) {
        out[want.chosen[j]] = want.weight[j] * (static_cast<double>(d[j]) - mean);
      }
      const std::vector<double> got = row_of(t.d_logits, token, t.n);
      for (std::size_t e = 0; e < got.size(); ++e) {
        proof.expect(got[e], out[e], "d_logits", token, static_cast<std::int64_t>(e));
      }
      continue;
    }
    const std::vector<float> scores = t.scores.read(token * t.n, t.n);
    for (std::size_t e = 0; e < scores.size(); ++e) {
      proof.expect(static_cast<double>(scores[e]), want.scores[e], "score", token,
                   static_cast<std::int64_t>(e));
    }
    const std::vector<std::int32_t> chosen = t.chosen.read(token * t.k, t.k);
    const std::vector<float> weight = t.weight.read(token * t.k, t.k);
    for (std::size_t j = 0; j < chosen.size(); ++j) {
      const auto column = static_cast<std::int64_t>(j);
      proof.expect(chosen[j], static_cast<double>(want.chosen[j]), "choice", token, column);
      proof.expect(static_cast<double>(weight[j]), want.weight[j], "weight", token, column);
    }
  }
  return proof.fault();
}

struct LossTensors {
  std::int64_t m, n;
  int sets;
  bool backward;
  Slab<Bf16> logits, d_logits;
  Slab<float> loss, log_sum;
  Slab<std::int32_t> target;
  std::vector<std::int32_t> host_target;

  LossTensors(const Work& w, Bytes rotate)
      : m(w.m),
        n(w.n),
        sets(sets_for(w.bytes, rotate)),
        backward(w.phase == Phase::data_grad),
        logits(m * n, sets),
        d_logits(backward ? m * n : 0, sets),
        loss(m, sets),
        log_sum(m, sets),
        target(m, 1) {
    logits.randomize(1, 8);
    for (std::int64_t row = 0; row < m; ++row) {
      host_target.push_back(static_cast<std::int32_t>(row * 7919 % n));
    }
    target.assign(host_target);
    if (!backward) return;
    wait_for_device();
    for (int s = 0; s < sets; ++s) {
      kernels::cross_entropy(loss.at(s), log_sum.at(s), logits.at(s), target.at(0), m, n, nullptr);
    }
  }

  void run(int s, Stream stream) const {
    if (backward) {
      kernels::cross_entropy_backward(d_logits.at(s), logits.at(s), log_sum.at(s), target.at(0),
                                      kFactor, m, n, stream);
    } else {
      kernels::cross_entropy(loss.at(s), log_sum.at(s), logits.at(s), target.at(0), m, n, stream);
    }
  }
};

std::string prove_loss(const LossTensors& t, Stream stream) {
  Proof proof(0.006, 1e-5);
  if (t.backward) {
    t.d_logits.spoil(stream);
    t.run(0, stream);
    proof.expect_written(t.d_logits, stream);
  } else {
    t.loss.spoil(stream);
    t.log_sum.spoil(stream);
    t.run(0, stream);
    proof.expect_written(t.loss, stream);
    proof.expect_written(t.log_sum, stream);
  }
  for (const std::int64_t row : sampled_rows(t.m)) {
    const std::vector<double> logits = row_of(t.logits, row, t.n);
    const double most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const double l : logits) sum += std::exp(l - most);
    const double log_sum = most + std::log(sum);
    const auto target = static_cast<std::size_t>(t.host_target[static_cast<std::size_t>(row)]);
    if (!t.backward) {
      const auto loss = static_cast<double>(t.loss.read(row, 1)[0]);
      proof.expect(loss, log_sum - logits[target], "loss", row, 0);
      proof.expect(static_cast<double>(t.log_sum.read(row, 1)[0]), log_sum, "log sum", row, 0);
      continue;
    }
    const std::vector<double> got = row_of(t.d_logits, row, t.n);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double want =
          (std::exp(logits[i] - log_sum) - (i == target ? 1 : 0)) * static_cast<double>(kFactor);
      proof.expect(got[i], want, "d_logits", row, static_cast<std::int64_t>(i));
    }
  }
  return proof.fault();
}

template <class Tensors>
Trial make(const Work& work, Bytes rotate, std::string (*prove)(const Tensors&, Stream)) {
  const auto tensors = std::make_shared<const Tensors>(work, rotate);
  Trial trial;
  trial.sets = tensors->sets;
  trial.launch = [tensors](int set, Stream stream) { tensors->run(set, stream); };
  trial.prove = [tensors, prove](Stream stream) { return prove(*tensors, stream); };
  return trial;
}

}  // namespace

Trial softmax_trial(const Ask& ask, Bytes rotate) {
  if (ask.work.kind == OpKind::router) {
    return make<RouterTensors>(ask.work, rotate, prove_router);
  }
  return make<LossTensors>(ask.work, rotate, prove_loss);
}

}  // namespace steploom
