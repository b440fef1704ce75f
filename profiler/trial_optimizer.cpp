#include <algorithm>
#include <cmath>
#include <memory>

#include "profiler/kernels.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

constexpr kernels::AdamStep kStep{1e-3F, 0.9F, 0.95F, 1e-8F, 0.1F, 0.5F, 10, nullptr, 0, nullptr};
constexpr std::int64_t kSampled = 1000;  // elements at either end

struct AdamTensors {
  std::int64_t count;
  int sets;
  Slab<Bf16> parameters;
  Slab<float> master, first, second, gradient;

  AdamTensors(const Work& w, Bytes rotate)
      : count(w.m),
        sets(sets_for(w.bytes, rotate)),
        parameters(count, sets),
        master(count, sets),
        first(count, sets),
        second(count, sets),
        gradient(count, sets) {
    master.randomize(1, 1);
    first.randomize(2, 0.1F);
    second.randomize_positive(3);
    gradient.randomize(4, 1);
  }
  void run(int s, Stream stream) const {
    kernels::adam(parameters.at(s), master.at(s), first.at(s), second.at(s), gradient.at(s), count,
                  kStep, stream);
  }
};

std::string prove_adam(const AdamTensors& t, Stream stream) {
  Proof proof(1e-5, 2e-6);
  Proof rounded(0.004, 1e-6);
  t.parameters.spoil(stream);
  const std::int64_t width = std::min(kSampled, t.count);
  const std::int64_t places[] = {0, t.count - width};
  std::vector<std::vector<float>> before;
  for (const std::int64_t at : places) {
    for (const Slab<float>* s : {&t.master, &t.first, &t.second, &t.gradient}) {
      before.push_back(s->read(at, width));
    }
  }
  t.run(0, stream);
  rounded.expect_written(t.parameters, stream);
  const double beta1 = static_cast<double>(kStep.beta1);
  const double beta2 = static_cast<double>(kStep.beta2);
  for (std::size_t place = 0; place < 2; ++place) {
    const auto master = t.master.read(places[place], width);
    const auto first = t.first.read(places[place], width);
    const auto second = t.second.read(places[place], width);
    const auto parameters = t.parameters.read(places[place], width);
    for (std::size_t i = 0; i < master.size(); ++i) {
      const auto at = [&](std::size_t tensor) {
        return static_cast<double>(before[4 * place + tensor][i]);
      };
      const double g = at(3) * static_cast<double>(kStep.factor);
      const double m = beta1 * at(1) + (1 - beta1) * g;
      const double v = beta2 * at(2) + (1 - beta2) * g * g;
      const double steps = static_cast<double>(kStep.step);
      const double step =
          m / (1 - std::pow(beta1, steps)) /
          (std::sqrt(v / (1 - std::pow(beta2, steps))) + static_cast<double>(kStep.epsilon));
      const double p = at(0) - static_cast<double>(kStep.rate) *
                                   (step + static_cast<double>(kStep.decay) * at(0));
      const auto column = places[place] + static_cast<std::int64_t>(i);
      proof.expect(static_cast<double>(first[i]), m, "first moment", 0, column);
      proof.expect(static_cast<double>(second[i]), v, "second moment", 0, column);
      proof.expect(static_cast<double>(master[i]), p, "master", 0, column);
      rounded.expect(static_cast<double>(to_float(parameters[i])), p, "parameter", 0, column);
    }
  }
  return proof.fault().empty() ? rounded.fault() : proof.fault();
}

struct SquareTensors {
  std::int64_t count;
  int sets;
  Slab<float> x, sum, scratch;

  SquareTensors(const Work& w, Bytes rotate)
      : count(w.m),
        sets(sets_for(w.bytes, rotate)),
        x(count, sets),
        sum(1, 1),
        scratch(kernels::square_scratch(1), 1) {
    x.randomize(1, 1);
  }
  void run(int s, Stream stream) const {
    const kernels::SquarePiece piece{x.at(s), count, 1};
    kernels::sum_of_squares(sum.at(0), scratch.at(0), {&piece, 1}, stream);
  }
};

// All elements on the host where that is little work; else what the uniform distribution expects,
// whose relative deviation is √(4/5)/√count.
std::string prove_squares(const SquareTensors& t, Stream stream) {
  constexpr std::int64_t kFew = std::int64_t{1} << 22;
  t.sum.spoil(stream);
  t.run(0, stream);
  const double got = static_cast<double>(t.sum.read(0, 1)[0]);
  if (t.count > kFew) {
    Proof proof(6 / std::sqrt(static_cast<double>(t.count)) + 1e-4, 0);
    proof.expect(got, static_cast<double>(t.count) / 3, "sum of squares", 0, 0);
    return proof.fault();
  }
  double want = 0;
  for (const float x : t.x.read(0, t.count)) {
    want += static_cast<double>(x) * static_cast<double>(x);
  }
  Proof proof(1e-5, 0);
  proof.expect(got, want, "sum of squares", 0, 0);
  return proof.fault();
}

Trial zero_trial(const Ask& ask, Bytes rotate) {
  const std::int64_t bytes = ask.work.m;
  Trial trial;
  trial.sets = sets_for(bytes, rotate);
  const auto slab = std::make_shared<const Slab<char>>(bytes, trial.sets);
  trial.launch = [slab](int set, Stream stream) {
    fill_zero(slab->at(set), slab->count(), stream);
  };
  trial.prove = [slab](Stream stream) {
    slab->spoil(stream);
    fill_zero(slab->at(0), slab->count(), stream);
    wait_for_device();
    const std::int64_t some = std::min<std::int64_t>(slab->count(), kSampled);
    for (const std::int64_t at : {std::int64_t{0}, slab->count() - some}) {
      for (const char c : slab->read(at, some)) {
        if (c != 0) return std::string("a byte is not zero");
      }
    }
    return std::string();
  };
  return trial;
}

}  // namespace

Trial optimizer_trial(const Ask& ask, Bytes rotate) {
  if (ask.work.kind == OpKind::zero_fill) return zero_trial(ask, rotate);
  Trial trial;
  if (ask.work.kind == OpKind::adam) {
    const auto tensors = std::make_shared<const AdamTensors>(ask.work, rotate);
    trial.sets = tensors->sets;
    trial.launch = [tensors](int set, Stream stream) { tensors->run(set, stream); };
    trial.prove = [tensors](Stream stream) { return prove_adam(*tensors, stream); };
    return trial;
  }
  const auto tensors = std::make_shared<const SquareTensors>(ask.work, rotate);
  trial.sets = tensors->sets;
  trial.launch = [tensors](int set, Stream stream) { tensors->run(set, stream); };
  trial.prove = [tensors](Stream stream) { return prove_squares(*tensors, stream); };
  return trial;
}

}  // namespace steploom
