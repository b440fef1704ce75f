#include "profiler/dropped_edges.h"

#include <algorithm>
#include <random>

#include "profiler/kernel_operands.h"

namespace steploom {
namespace {

// By stream, how many of its calls are known to have ended.
using Clock = std::vector<std::uint32_t>;

void raise_to(Clock& clock, const Clock& other) {
  for (std::size_t s = 0; s < clock.size(); ++s) clock[s] = std::max(clock[s], other[s]);
}

class Order {
 public:
  explicit Order(const Execution& e)
      : e_(e),
        known_(e.calls.size(), Clock(e.streams.size())),
        place_(e.calls.size()),
        before_(e.calls.size(), -1),
        producer_(e.events) {
    std::vector<std::int64_t> last(e.streams.size(), -1);
    Clock count(e.streams.size());
    for (std::size_t i = 0; i < e.calls.size(); ++i) {
      const Call& call = e.calls[i];
      const auto stream = static_cast<std::size_t>(call.stream);
      before_[i] = last[stream];
      last[stream] = static_cast<std::int64_t>(i);
      place_[i] = ++count[stream];
      known_[i] = known_without(i, -1);
      if (call.event >= 0)
        producer_[static_cast<std::size_t>(call.event)] = static_cast<std::uint32_t>(i);
    }
  }

  std::uint32_t producer(std::uint32_t event) const { return producer_[event]; }

  // Would call i start after the producer of `event` without waiting for it?
  bool implied(std::size_t i, std::uint32_t event) const {
    const std::uint32_t p = producer_[event];
    return known_without(i, event)[static_cast<std::size_t>(e_.calls[p].stream)] >= place_[p];
  }

 private:
  Clock known_without(std::size_t i, std::int64_t event) const {
    Clock clock(e_.streams.size());
    const auto after = [&](std::size_t j) {
      raise_to(clock, known_[j]);
      std::uint32_t& own = clock[static_cast<std::size_t>(e_.calls[j].stream)];
      own = std::max(own, place_[j]);
    };
    if (before_[i] >= 0) after(static_cast<std::size_t>(before_[i]));
    for (const std::uint32_t w : e_.calls[i].waits)
      if (w != event) after(producer_[w]);
    return clock;
  }

  const Execution& e_;
  std::vector<Clock> known_;             // by call: when it starts
  std::vector<std::uint32_t> place_;     // by call: on its stream, from 1
  std::vector<std::int64_t> before_;     // by call: the one before it on its stream, or -1
  std::vector<std::uint32_t> producer_;  // by event
};

}  // namespace

std::vector<CrossEdge> needed_edges(const Program& program, const Execution& execution) {
  const Order order(execution);
  std::vector<CrossEdge> out;
  for (std::size_t i = 0; i < execution.calls.size(); ++i) {
    const Call& call = execution.calls[i];
    if (program.slots[call.slot].kind == SlotKind::optimizer) continue;
    for (const std::uint32_t event : call.waits) {
      const std::uint32_t from = order.producer(event);
      if (order.implied(i, event) || !depends(call.kernel, execution.calls[from].kernel)) continue;
      out.push_back({execution.rank, from, static_cast<std::uint32_t>(i)});
    }
  }
  return out;
}

std::vector<CrossEdge> draw_edges(const BindInput& input, int count, std::uint64_t seed) {
  std::vector<CrossEdge> all;
  for (std::size_t rank = 0; rank < input.program.devices.size(); ++rank)
    for (const CrossEdge& e : needed_edges(input.program, bind(input, static_cast<int>(rank))))
      all.push_back(e);
  std::mt19937_64 random(seed);
  std::vector<CrossEdge> drawn;
  while (static_cast<int>(drawn.size()) < count && !all.empty()) {
    const auto at = static_cast<std::ptrdiff_t>(random() % all.size());
    drawn.push_back(all[static_cast<std::size_t>(at)]);
    all.erase(all.begin() + at);
  }
  return drawn;
}

void drop_edge(Execution& execution, const CrossEdge& edge) {
  const auto event = static_cast<std::uint32_t>(execution.calls.at(edge.from).event);
  std::erase(execution.calls.at(edge.to).waits, event);
}

std::string describe(const Program& program, const Execution& execution, const CrossEdge& edge) {
  return describe_op(program, execution.calls.at(edge.from).op) + " before " +
         describe_op(program, execution.calls.at(edge.to).op);
}

}  // namespace steploom
