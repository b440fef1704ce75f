// Verification of steps on GPUs (verify_step.h).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "models/error.h"
#include "profiler/cuda_kernels.h"
#include "profiler/run_reference.h"
#include "profiler/run_step.h"
#include "profiler/step_data.h"
#include "profiler/verify_step.h"

namespace steploom {
namespace {

constexpr double kTimesPlain = 2, kOverPlain = 1e-3;  // against the reference
constexpr double kTimesDistance = 3;                  // against the plain run

// What one rank keeps of a first step.
struct FirstStep {
  std::vector<std::vector<float>> gradients;  // by parameter
  std::vector<double> loss;
  RoutingTape tape;
};

void tamper(CudaKernels& kernels, Execution& execution, StepHooks& hooks, const Tampering& t) {
  if (t.dropped && t.dropped->rank == execution.rank) drop_edge(execution, *t.dropped);
  std::set<std::uint32_t> held;  // operators
  for (const CrossEdge& e : t.delayed)
    if (e.rank == execution.rank) held.insert(execution.calls[e.from].op);
  hooks.poisoned = [&kernels, held, ms = t.delay_ms](const Call& call) {
    if (held.contains(call.op)) kernels.delay(ms, call.stream);
  };
}

FirstStep first_step(Peers& peers, const BindInput& input, TapeMode mode, const RoutingTape& tape,
                     const PlanChoices& choices, const VerifyOptions& options,
                     const Tampering& tampering = {}) {
  BindOptions binding;
  binding.tape = mode;
  Execution execution = bind(input, peers.rank(), binding);
  CudaOptions cuda;
  cuda.plans = choices;
  cuda.patience_seconds = options.patience;
  CudaKernels kernels(peers, cuda);
  set_up(kernels, input, execution);
  if (mode == TapeMode::replay) load_routing(kernels, execution, tape);
  peers.meet();
  FirstStep out;
  StepHooks hooks;
  hooks.poison = options.poison;
  hooks.before = [&](const Call& call) {  // the step ends by zeroing its gradients
    if (!std::holds_alternative<ZeroFill>(call.kernel)) return;
    for (const BoundParameter& p : execution.parameters) {
      const std::vector<double> values = kernels.read(p.gradient);
      out.gradients.emplace_back(values.begin(), values.end());
    }
  };
  tamper(kernels, execution, hooks, tampering);
  kernels.begin_step(1);
  issue_step(kernels, execution, hooks);
  kernels.wait_for_all();
  if (execution.loss) out.loss = kernels.read(execution.loss);
  if (mode == TapeMode::record) save_routing(kernels, execution, out.tape);
  peers.meet();
  return out;
}

// ---- Over the ranks ------------------------------------------------------------------------

template <class T>
void put(std::string& to, const T* values, std::size_t count) {
  to.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

class Taker {
 public:
  explicit Taker(const std::string& from) : from_(from) {}
  bool empty() const { return at_ == from_.size(); }
  template <class T>
  T one() {
    T value{};
    std::memcpy(&value, from_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  template <class T>
  std::vector<T> some(std::size_t count) {
    std::vector<T> values(count);
    std::memcpy(values.data(), from_.data() + at_, count * sizeof(T));
    at_ += count * sizeof(T);
    return values;
  }

 private:
  const std::string& from_;
  std::size_t at_ = 0;
};

std::string to_bytes(const RoutingTape& tape) {
  std::string out;
  for (const auto& [key, words] : tape) {
    const std::int64_t head[] = {key.first, key.second, static_cast<std::int64_t>(words.size())};
    put(out, head, 3);
    put(out, words.data(), words.size());
  }
  return out;
}

void add_from_bytes(const std::string& bytes, RoutingTape& tape) {
  for (Taker t(bytes); !t.empty();) {
    const auto layer = static_cast<int>(t.one<std::int64_t>());
    const auto token = t.one<std::int64_t>();
    tape[{layer, token}] = t.some<double>(static_cast<std::size_t>(t.one<std::int64_t>()));
  }
}

// Every rank's part, at every rank.
RoutingTape whole_tape(Peers& peers, const RoutingTape& mine) {
  RoutingTape all;
  for (const std::string& bytes : peers.gather(to_bytes(mine))) add_from_bytes(bytes, all);
  const std::string bytes = peers.share(to_bytes(all));
  all.clear();
  add_from_bytes(bytes, all);
  return all;
}

double mean_loss(Peers& peers, const std::vector<double>& mine) {
  std::string bytes;
  put(bytes, mine.data(), mine.size());
  double sum = 0;
  double rows = 0;
  for (const std::string& part : peers.gather(bytes)) {
    for (Taker t(part); !t.empty();) {
      sum += t.one<double>();
      rows += 1;
    }
  }
  return sum / rows;
}

// ---- Against the reference -----------------------------------------------------------------

using Tensors = std::map<std::string, std::vector<double>>;

// At rank 0, by rank: whole tensors with this rank's word on all that it holds a copy of, so that
// copies which differ show. `run` knows every rank's shards.
std::vector<Tensors> whole_gradients(Peers& peers, const BindInput& input, const ReferenceRun* run,
                                     const FirstStep& mine) {
  std::string bytes;
  for (const std::vector<float>& g : mine.gradients) put(bytes, g.data(), g.size());
  const std::vector<std::string> all = peers.gather(bytes);
  if (run == nullptr) return {};
  const auto say = [&](std::size_t rank, Tensors& out) {
    Taker t(all[rank]);
    const Execution& e = run->execution(static_cast<int>(rank));
    const std::vector<ParameterTensor> list = parameters_of(input, e);
    for (std::size_t i = 0; i < list.size(); ++i) {
      const ParameterTensor& p = list[i];
      const std::vector<float> shard = t.some<float>(static_cast<std::size_t>(p.elements()));
      const std::vector<double> wide(shard.begin(), shard.end());
      into_whole(e, p, e.parameters[i], wide, out[p.name]);
    }
  };
  Tensors together;
  for (std::size_t rank = 0; rank < all.size(); ++rank) say(rank, together);
  std::vector<Tensors> out(all.size(), together);
  for (std::size_t rank = 0; rank < all.size(); ++rank) say(rank, out[rank]);
  return out;
}

// The largest over the ranks' words; NaN if one is.
double worst_error(const std::vector<Tensors>& got, const std::string& name,
                   const std::vector<double>& want) {
  double worst = 0;
  for (const Tensors& of_rank : got) {
    const auto found = of_rank.find(name);
    const double error = found == of_rank.end() ? std::numeric_limits<double>::quiet_NaN()
                                                : relative_error(found->second, want);
    if (!(error <= worst)) worst = error;
    if (std::isnan(worst)) break;
  }
  return worst;
}

// Share of the choices that are the same, in any order.
double agreement(const RoutingTape& a, const RoutingTape& b) {
  const auto experts = [](std::vector<double> words) {
    for (double& w : words)
      if (w < 0) w = -1 - w;
    std::sort(words.begin(), words.end());
    return words;
  };
  double same = 0;
  double all = 0;
  for (const auto& [key, words] : a) {
    const auto other = b.find(key);
    if (other == b.end()) continue;
    const std::vector<double> x = experts(words);
    const std::vector<double> y = experts(other->second);
    std::vector<double> common;
    std::set_intersection(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(common));
    same += static_cast<double>(common.size());
    all += static_cast<double>(words.size());
  }
  return all > 0 ? same / all : -1;
}

Verification against_reference(Peers& peers, const BindInput& input, const FirstStep& step,
                               const RoutingTape& tape, const Verification* plain) {
  Verification v;
  v.against_reference = true;
  v.loss = mean_loss(peers, step.loss);
  peers.doing("the reference's step");
  std::unique_ptr<ReferenceRun> run;
  if (peers.first()) {
    BindOptions replay;
    replay.tape = TapeMode::replay;
    run = std::make_unique<ReferenceRun>(input, replay);
  }
  const std::vector<Tensors> got = whole_gradients(peers, input, run.get(), step);
  if (peers.first()) {
    run->replay_routing(tape);
    const StepResult want = run->step();
    v.expected_loss = want.loss;
    for (const auto& [name, gradient] : want.gradients) {
      TensorError e;
      e.name = name;
      e.error = worst_error(got, name, gradient);
      e.bound = kPlainError;
      if (plain != nullptr) {
        const auto of_plain =
            std::find_if(plain->tensors.begin(), plain->tensors.end(),
                         [&name = name](const TensorError& t) { return t.name == name; });
        e.bound = of_plain == plain->tensors.end() ? 0 : kTimesPlain * of_plain->error + kOverPlain;
      }
      v.tensors.push_back(std::move(e));
    }
    if (plain == nullptr && !tape.empty()) {
      BindOptions record;
      record.tape = TapeMode::record;
      ReferenceRun own(input, record);
      own.step();
      v.router_agreement = agreement(tape, own.routing());
    }
  }
  peers.meet();
  return v;
}

// ---- Against another run -------------------------------------------------------------------

// Relative L2 distance by parameter over all ranks, at rank 0.
std::map<std::string, double> distances(Peers& peers, const Execution& names, const FirstStep& a,
                                        const FirstStep& b) {
  std::string bytes;
  for (std::size_t i = 0; i < names.parameters.size(); ++i) {
    double square = 0;
    double size = 0;
    const std::vector<float>& x = a.gradients[i];
    const std::vector<float>& y = b.gradients.at(i);
    if (x.size() != y.size()) square = std::numeric_limits<double>::quiet_NaN();
    for (std::size_t j = 0; j < std::min(x.size(), y.size()); ++j) {
      const double d = static_cast<double>(x[j]) - static_cast<double>(y[j]);
      square += d * d;
      size += static_cast<double>(x[j]) * static_cast<double>(x[j]);
    }
    const std::string& name = names.parameters[i].name;
    const auto length = static_cast<std::int64_t>(name.size());
    put(bytes, &length, 1);
    put(bytes, name.data(), name.size());
    put(bytes, &square, 1);
    put(bytes, &size, 1);
  }
  std::map<std::string, std::pair<double, double>> sums;
  for (const std::string& part : peers.gather(bytes)) {
    for (Taker t(part); !t.empty();) {
      const std::vector<char> name = t.some<char>(static_cast<std::size_t>(t.one<std::int64_t>()));
      auto& sum = sums[std::string(name.begin(), name.end())];
      sum.first += t.one<double>();
      sum.second += t.one<double>();
    }
  }
  std::map<std::string, double> out;
  for (const auto& [name, sum] : sums) {
    out[name] = sum.first == 0 ? 0 : std::sqrt(sum.first) / std::max(std::sqrt(sum.second), 1e-300);
  }
  return out;
}

std::vector<Verification> against_plain(Peers& peers, std::span<const BindInput> plans,
                                        const FirstStep& plain, const RoutingTape& tape,
                                        const VerifyOptions& options) {
  const Execution names = bind(plans[0], peers.rank());
  PlanChoices other;
  other.algorithm = 1;
  other.attention = AttentionOrder::deterministic;
  const double plain_loss = mean_loss(peers, plain.loss);
  std::map<std::string, double> repeated;  // of the plain plan
  std::vector<Verification> out;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const FirstStep step = first_step(peers, plans[i], TapeMode::replay, tape,
                                      i == 0 ? other : PlanChoices{}, options);
    const std::map<std::string, double> apart = distances(peers, names, plain, step);
    if (i == 0) repeated = apart;
    Verification v;
    v.loss = mean_loss(peers, step.loss);
    v.expected_loss = plain_loss;
    for (const auto& [name, distance] : apart) {
      const double bound =
          i == 0 ? kPlainError : std::max(kTimesDistance * repeated[name], kOverPlain);
      v.tensors.push_back({name, distance, bound});
    }
    out.push_back(std::move(v));
  }
  return out;
}

}  // namespace

std::vector<Verification> verify_on_gpus(Peers& peers, std::span<const BindInput> plans,
                                         const VerifyOptions& options) {
  take_gpu(peers);
  peers.doing("verifying the plain plan");
  const FirstStep plain = first_step(peers, plans[0], TapeMode::record, {}, PlanChoices{}, options);
  const RoutingTape tape = whole_tape(peers, plain.tape);
  const bool small = std::all_of(plans.begin(), plans.end(), [](const BindInput& p) {
    return flops_of(p.program) <= kReferenceFlops;
  });
  if (!small) return against_plain(peers, plans, plain, tape, options);
  std::vector<Verification> out;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    peers.doing("verifying plan " + std::to_string(i + 1));
    const FirstStep step =
        i == 0 ? plain
               : first_step(peers, plans[i], TapeMode::replay, tape, PlanChoices{}, options,
                            i < options.tampering.size() ? options.tampering[i] : Tampering{});
    out.push_back(
        against_reference(peers, plans[i], step, tape, out.empty() ? nullptr : &out.front()));
  }
  return out;
}

}  // namespace steploom
