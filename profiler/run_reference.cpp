#include "profiler/run_reference.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

#include "models/error.h"

namespace steploom {

// Streams, events and rendezvous of all ranks; runs one operator after another.
class ReferenceRun::Scheduler {
 public:
  Scheduler(std::vector<Rank>& ranks, const ReferenceOrder& order, StepResult& result)
      : ranks_(ranks), order_(order), result_(result), random_(order.seed) {
    for (Rank& rank : ranks_) {
      State s;
      s.recorded.resize(rank.execution.events, false);
      s.queues.resize(rank.execution.streams.size());
      s.arrived.resize(rank.execution.streams.size(), false);
      s.head.resize(rank.execution.streams.size(), 0);
      for (std::size_t i = 0; i < rank.execution.calls.size(); ++i)
        s.queues[static_cast<std::size_t>(rank.execution.calls[i].stream)].push_back(i);
      left_ += rank.execution.calls.size();
      states_.push_back(std::move(s));
    }
  }

  void run(const Program& program) {
    while (left_ > 0) {
      const std::optional<Candidate> next = pick();
      if (!next) throw Error({"execution", stuck(program), "an operator that may run", "none", ""});
      start(*next);
    }
  }

 private:
  struct State {
    std::vector<bool> recorded;                    // by event
    std::vector<std::vector<std::size_t>> queues;  // by stream: calls
    std::vector<std::size_t> head;
    std::vector<bool> arrived;  // the head is a collective that waits for others
  };
  struct Candidate {
    std::size_t rank, stream;
  };

  const Call& call_of(const Candidate& c) const {
    const State& s = states_[c.rank];
    return ranks_[c.rank].execution.calls[s.queues[c.stream][s.head[c.stream]]];
  }

  std::optional<Candidate> pick() {
    std::vector<Candidate> ready;
    std::optional<Candidate> delayed;
    for (std::size_t r = 0; r < states_.size(); ++r)
      for (std::size_t q = 0; q < states_[r].queues.size(); ++q) {
        const State& s = states_[r];
        if (s.head[q] == s.queues[q].size() || s.arrived[q]) continue;
        const Call& call = call_of({r, q});
        const bool may = std::all_of(call.waits.begin(), call.waits.end(),
                                     [&](std::uint32_t e) { return s.recorded[e]; });
        if (!may) continue;
        if (call.op == order_.delayed)
          delayed = Candidate{r, q};
        else
          ready.push_back({r, q});
      }
    if (ready.empty()) return delayed;
    if (order_.seed == 0) {
      return *std::min_element(
          ready.begin(), ready.end(),
          [this](const Candidate& a, const Candidate& b) { return call_of(a).op < call_of(b).op; });
    }
    return ready[random_() % ready.size()];
  }

  void start(const Candidate& c) {
    const Call& call = call_of(c);
    ReferenceKernels& kernels = *ranks_[c.rank].kernels;
    for (const TensorRef& t : call.begins) kernels.poison(t, call.stream);
    if (std::holds_alternative<ZeroFill>(call.kernel)) keep_gradients(ranks_[c.rank]);
    launch(kernels, call.kernel, call.stream);
    const auto* collective = std::get_if<Collective>(&call.kernel);
    if (collective == nullptr) {
      finish(c);
      return;
    }
    states_[c.rank].arrived[c.stream] = true;
    const std::uint32_t id = ranks_[c.rank].execution.communicators[collective->communicator].id;
    std::vector<Candidate>& members = meetings_[id];
    members.push_back(c);
    if (!kernels.met()) return;
    for (const Candidate& m : std::exchange(members, {})) finish(m);
  }

  void finish(const Candidate& c) {
    State& s = states_[c.rank];
    const Call& call = call_of(c);
    for (const TensorRef& t : call.ends) ranks_[c.rank].kernels->poison(t, call.stream);
    if (call.event >= 0) s.recorded[static_cast<std::size_t>(call.event)] = true;
    s.arrived[c.stream] = false;
    ++s.head[c.stream];
    --left_;
  }

  // The step ends by zeroing them.
  void keep_gradients(Rank& rank) {
    for (std::size_t i = 0; i < rank.list.size(); ++i)
      into_whole(rank.execution, rank.list[i], rank.execution.parameters[i],
                 rank.kernels->read(rank.execution.parameters[i].gradient),
                 result_.gradients[rank.list[i].name]);
  }

  std::string stuck(const Program& program) const {
    for (std::size_t r = 0; r < states_.size(); ++r)
      for (std::size_t q = 0; q < states_[r].queues.size(); ++q)
        if (states_[r].head[q] < states_[r].queues[q].size())
          return describe_op(program, call_of({r, q}).op);
    return "";
  }

  std::vector<Rank>& ranks_;
  const ReferenceOrder& order_;
  StepResult& result_;
  std::mt19937_64 random_;
  std::vector<State> states_;
  std::map<std::uint32_t, std::vector<Candidate>> meetings_;
  std::size_t left_ = 0;
};

// A float64 stands for every two bytes of a device's memory.
void ReferenceRun::require_memory() const {
  const double here =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  double wanted = 0;
  for (const Rank& rank : ranks_)
    for (const MemorySpec& m : rank.execution.memories)
      wanted += static_cast<double>(sizeof(double)) * static_cast<double>((m.bytes + 1) / 2);
  constexpr double kGiB = 1 << 30;
  if (wanted > here)
    throw Error({"the reference backend", "memory of all ranks in float64",
                 fmt::format("at most this machine's {:.1f} GiB", here / kGiB),
                 fmt::format("{:.1f} GiB", wanted / kGiB), "it is for small models"});
}

ReferenceRun::ReferenceRun(const BindInput& input, const BindOptions& options) : input_(input) {
  for (std::size_t r = 0; r < input.program.devices.size(); ++r) {
    Rank rank;
    rank.execution = bind(input, static_cast<int>(r), options);
    rank.kernels = std::make_unique<ReferenceKernels>(meeting_);
    rank.list = parameters_of(input, rank.execution);
    ranks_.push_back(std::move(rank));
  }
  require_memory();
  for (Rank& rank : ranks_) set_up(*rank.kernels, input_, rank.execution);
}

StepResult ReferenceRun::step(const ReferenceOrder& order) {
  ++steps_;
  StepResult result;
  for (Rank& rank : ranks_) rank.kernels->begin_step(steps_);
  Scheduler(ranks_, order, result).run(input_.program);
  // The tensor-parallel ranks of the last stage all hold the same losses.
  double sum = 0, rows = 0;
  for (Rank& rank : ranks_) {
    if (!rank.execution.loss) continue;
    for (const double x : rank.kernels->read(rank.execution.loss)) sum += x;
    rows += static_cast<double>(rank.execution.loss.rows);
  }
  result.loss = sum / rows;
  return result;
}

std::map<std::string, std::vector<double>> ReferenceRun::parameters() {
  std::map<std::string, std::vector<double>> out;
  for (Rank& rank : ranks_)
    for (std::size_t i = 0; i < rank.list.size(); ++i)
      into_whole(rank.execution, rank.list[i], rank.execution.parameters[i],
                 rank.kernels->read(rank.execution.parameters[i].value), out[rank.list[i].name]);
  return out;
}

RoutingTape ReferenceRun::routing() {
  RoutingTape tape;
  for (Rank& rank : ranks_) save_routing(*rank.kernels, rank.execution, tape);
  return tape;
}

void ReferenceRun::replay_routing(const RoutingTape& tape) {
  for (Rank& rank : ranks_) load_routing(*rank.kernels, rank.execution, tape);
}

}  // namespace steploom
