#include "sim/step_difference.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <tuple>

#include "sim/operator_parts.h"

namespace steploom {
namespace {

constexpr std::array<std::string_view, kDifferenceCauses> kNames{
    "kernel",      "contention",  "admission", "launch gap", "waiting for a peer",
    "start delay", "another path"};

Picoseconds& of(CauseTimes& times, DifferenceCause c) {
  return times[static_cast<std::size_t>(c)];
}

// A stretch of a chain between two moments that both Timelines have. Operators go by their events
// in A.
struct Link {
  enum class Kind : std::uint8_t {
    run,    // from the coming of `other` (itself, or its last peer) to the operator's end
    wait,   // from the end of `other` to its start
    issue,  // from the end of `other`, for which the host waited, until it was issued
    late,   // from when it was issued to its start
  };
  Kind kind = Kind::run;
  std::uint32_t op = 0;
  std::uint32_t other = kNoEvent;  // kNoEvent: the step's start
  bool by_end = false;             // run: the peer came by its end
};

// One Timeline of the two, by the events of A.
struct Side {
  TimelineIndex index;
  std::vector<std::uint32_t> event;  // by event of A
  std::vector<std::uint32_t> of_a;   // by own event
  std::vector<OperatorParts> parts;  // by event of A

  const TimelineEvent& at(std::uint32_t op) const { return index.timeline().events[event[op]]; }
  Picoseconds end_of(std::uint32_t op) const { return op == kNoEvent ? 0 : at(op).end; }
};

class Comparison {
 public:
  Comparison(const Timeline& a, const Timeline& b, const TimelineMatch& match)
      : sides_{Side{TimelineIndex(a), {}, {}, {}}, Side{TimelineIndex(b), match.b_of_a, {}, {}}} {
    const auto n = static_cast<std::uint32_t>(a.events.size());
    sides_[0].event.resize(n);
    for (std::uint32_t op = 0; op < n; ++op) sides_[0].event[op] = op;
    for (Side& side : sides_) {
      side.of_a.resize(n);
      for (std::uint32_t op = 0; op < n; ++op) side.of_a[side.event[op]] = op;
    }
    const bool waits = !a.first_wait.empty() && !b.first_wait.empty();
    for (std::uint32_t op = 0; op < n; ++op) {
      const auto known = [&](Picoseconds TimelineEvent::*time) {
        return sides_[0].at(op).*time != kUnknownTime && sides_[1].at(op).*time != kUnknownTime;
      };
      known_.push_back({known(&TimelineEvent::issued), known(&TimelineEvent::joined), waits});
      for (Side& side : sides_)
        side.parts.push_back(parts_of(side.index, side.event[op], known_[op]));
    }
    find_host_waits();
  }

  StepDifference run() {
    StepDifference out;
    out.difference = makespan(1) - makespan(0);
    std::array<std::vector<bool>, 2> on_chain;
    for (std::size_t s = 0; s < 2; ++s) {
      const std::vector<Link> chain = chain_of(sides_[s]);
      CauseTimes& along = s == 0 ? out.along_a : out.along_b;
      on_chain[s].resize(known_.size(), false);
      for (const Link& link : chain) {
        on_chain[s][link.op] = true;
        const CauseTimes in_a = measure(link, sides_[0]), in_b = measure(link, sides_[1]);
        for (std::size_t c = 0; c < along.size(); ++c) along[c] += in_b[c] - in_a[c];
      }
      // The other step may end with another operator.
      Picoseconds rest = out.difference;
      for (const Picoseconds time : along) rest -= time;
      of(along, DifferenceCause::other_path) += rest;
    }
    for (std::uint32_t op = 0; op < known_.size(); ++op)
      add_operator(op, on_chain[0][op], on_chain[1][op], out.operators);
    std::sort(out.operators.begin(), out.operators.end(), [](const auto& x, const auto& y) {
      return std::tuple(-std::abs(x.difference()), x.event_a, x.cause) <
             std::tuple(-std::abs(y.difference()), y.event_a, y.cause);
    });
    return out;
  }

 private:
  Picoseconds makespan(std::size_t s) const { return sides_[s].index.timeline().makespan; }

  // By event of A: the last operator before it for which its host waited.
  void find_host_waits() {
    const std::vector<TimelineEvent>& events = sides_[0].index.timeline().events;
    std::uint32_t last = kNoEvent;
    for (std::uint32_t op = 0; op < events.size(); ++op) {
      if (op > 0 && events[op].device != events[op - 1].device) last = kNoEvent;
      host_wait_.push_back(last);
      if (events[op].host_waits) last = op;
    }
  }

  DifferenceCause run_cause(std::uint32_t op) const {
    return sides_[0].parts[op].beside || sides_[1].parts[op].beside ? DifferenceCause::contention
                                                                    : DifferenceCause::kernel;
  }

  // Backwards from the operator that ends last.
  std::vector<Link> chain_of(const Side& side) const {
    std::vector<Link> chain;
    std::uint32_t op = kNoEvent;
    for (std::uint32_t e = 0; e < known_.size(); ++e)
      if (op == kNoEvent || side.at(e).end > side.at(op).end) op = e;
    std::vector<bool> seen(known_.size(), false);  // a file's times may run in circles
    while (op != kNoEvent && !seen[op]) {
      seen[op] = true;
      TimelineIndex::Comer comer{side.event[op], false};
      if (known_[op].joined) comer = side.index.last_to_come(side.event[op]);
      const std::uint32_t peer = side.of_a[comer.event];
      chain.push_back({Link::Kind::run, op, peer, comer.by_end});
      if (peer != op) {
        if (!comer.by_end)
          op = add_start(side, peer, chain);
        else
          op = peer;
        continue;
      }
      op = add_start(side, op, chain);
    }
    return chain;
  }

  // The links that end at an operator's start; returns the operator whose end comes before them.
  std::uint32_t add_start(const Side& side, std::uint32_t op, std::vector<Link>& chain) const {
    const OperatorParts& parts = side.parts[op];
    if (parts.launch_gap > 0) {
      chain.push_back({Link::Kind::late, op, kNoEvent, false});
      chain.push_back({Link::Kind::issue, op, host_wait_[op], false});
      return host_wait_[op];
    }
    const std::uint32_t before = parts.reason == kNoEvent ? kNoEvent : side.of_a[parts.reason];
    chain.push_back({Link::Kind::wait, op, before, false});
    return before;
  }

  // A link's time in a Timeline, by cause; adds up to the time between its two ends.
  CauseTimes measure(const Link& link, const Side& side) const {
    const OperatorParts& parts = side.parts[link.op];
    const TimelineEvent& e = side.at(link.op);
    CauseTimes out{};
    switch (link.kind) {
      case Link::Kind::run: {
        of(out, run_cause(link.op)) = parts.run;
        const TimelineEvent& peer = side.at(link.other);
        of(out, DifferenceCause::peer) = e.end - parts.run - (link.by_end ? peer.end : peer.start);
        return out;
      }
      case Link::Kind::issue:
        of(out, DifferenceCause::launch_gap) = e.issued - side.end_of(link.other);
        return out;
      case Link::Kind::wait:
        of(out, DifferenceCause::other_path) = parts.before - side.end_of(link.other);
        of(out, DifferenceCause::launch_gap) = parts.launch_gap;
        break;
      case Link::Kind::late:
        of(out, DifferenceCause::other_path) = parts.before + parts.launch_gap - e.issued;
        break;
    }
    of(out, DifferenceCause::admission) = parts.admission;
    of(out, DifferenceCause::start_delay) = parts.start_delay;
    return out;
  }

  void add_operator(std::uint32_t op, bool on_a, bool on_b,
                    std::vector<OperatorDifference>& out) const {
    const auto add = [&](DifferenceCause cause, Picoseconds OperatorParts::*part) {
      const Picoseconds a = sides_[0].parts[op].*part, b = sides_[1].parts[op].*part;
      if (a != b) out.push_back({op, sides_[1].event[op], cause, a, b, on_a, on_b});
    };
    add(run_cause(op), &OperatorParts::run);
    add(DifferenceCause::admission, &OperatorParts::admission);
    add(DifferenceCause::launch_gap, &OperatorParts::launch_gap);
    add(DifferenceCause::peer, &OperatorParts::peer);
    add(DifferenceCause::start_delay, &OperatorParts::start_delay);
  }

  std::array<Side, 2> sides_;
  std::vector<KnownTimes> known_;         // by event of A
  std::vector<std::uint32_t> host_wait_;  // by event of A
};

}  // namespace

std::string_view name_of(DifferenceCause c) {
  return kNames.at(static_cast<std::size_t>(c));
}

bool explains(DifferenceCause c) {
  return c != DifferenceCause::start_delay && c != DifferenceCause::other_path;
}

Picoseconds StepDifference::mean(DifferenceCause c) const {
  const auto i = static_cast<std::size_t>(c);
  return (along_a[i] + along_b[i]) / 2;
}

Picoseconds StepDifference::explained() const {
  Picoseconds sum = 0;
  for (int c = 0; c < kDifferenceCauses; ++c)
    if (explains(static_cast<DifferenceCause>(c))) sum += mean(static_cast<DifferenceCause>(c));
  return sum;
}

StepDifference step_difference(const Timeline& a, const Timeline& b, const TimelineMatch& match) {
  assert(match.same());
  return Comparison(a, b, match).run();
}

}  // namespace steploom
