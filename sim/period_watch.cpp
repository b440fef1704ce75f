#include "sim/period_watch.h"

#include <algorithm>
#include <utility>

namespace steploom {
namespace {

constexpr std::size_t kMoments = 8;  // the longest recurrence that is found, in periods

Picoseconds longest_latency(const FlatProgram& flat) {
  std::uint32_t longest = 0;
  for (const FlatOp& op : flat.ops) longest = std::max({longest, op.stream_gap, op.event_latency});
  return longest;
}

}  // namespace

PeriodWatch::PeriodWatch(const FlatProgram& flat)
    : flat_(flat),
      steady_(find_steady_state(flat)),
      next_slot_(kNoOp),
      window_(longest_latency(flat) + 1) {
  if (steady_.devices.empty()) return;
  const SteadySlots& slots = steady_.devices.front();
  const FlatBlock& block = flat.blocks[flat.program.slots[slots.first].block];
  while (stream_ < block.lists && flat.stream_ops(slots.first, stream_).empty()) ++stream_;
  if (stream_ < block.lists) next_slot_ = slots.first;
}

PeriodWatch::Found PeriodWatch::look(Moment now, const Frontier& frontier) {
  const SteadySlots& slots = steady_.devices.front();
  const std::uint32_t slot = frontier.head(stream_).slot;
  next_slot_ = slot + slots.period - (slot - slots.first) % slots.period;
  if (next_slot_ >= slots.last) next_slot_ = kNoOp;
  Found found;
  for (auto then = moments_.rbegin(); then != moments_.rend(); ++then) {
    const std::uint32_t apart = slot - then->slots[stream_];
    if (apart % slots.period != 0) continue;
    const std::uint32_t periods = apart / slots.period;
    const std::uint32_t times = repeats(*then, now, periods, frontier);
    if (times == 0) continue;
    const Program& p = flat_.program;
    for (std::uint32_t i = 0; i < steady_.devices.size(); ++i) {
      const SteadySlots& d = steady_.devices[i];
      std::uint32_t earliest = kNoOp, latest = 0;  // slots of heads that go along
      for (std::uint32_t s = flat_.first_stream[i]; s < flat_.first_stream[i + 1]; ++s) {
        if (now.slots[s] == then->slots[s]) continue;
        earliest = std::min(earliest, now.slots[s]);
        latest = std::max(latest, now.slots[s]);
      }
      const std::uint32_t back = (d.reach + latest - earliest) / (periods * d.period) + 2;
      found.first_read.push_back(times > back ? times - back : 1);
      Skip by;
      by.slots = times * periods * d.period;
      by.ops = p.slots[d.first + d.period].first_op - p.slots[d.first].first_op;
      by.segments = flat_.first_segment[d.first + d.period] - flat_.first_segment[d.first];
      by.ops *= times * periods;
      by.segments *= times * periods;
      by.time = times * (now.at - then->at);
      found.by.push_back(by);
    }
    for (const std::uint32_t r : steady_.rendezvous)
      found.rendezvous.push_back(r == kNoOp ? 0 : r * times * periods);
    found.from = *then;
    found.times = times;
    next_slot_ = kNoOp;
    return found;
  }
  moments_.push_back(std::move(now));
  if (moments_.size() > kMoments) moments_.pop_front();
  return found;
}

std::uint32_t PeriodWatch::repeats(const Moment& then, const Moment& now, std::uint32_t periods,
                                   const Frontier& frontier) const {
  if (then.state != now.state) return 0;
  const Picoseconds time = now.at - then.at;
  std::uint32_t times = kNoOp;
  for (std::uint32_t d = 0; d < steady_.devices.size(); ++d) {
    const SteadySlots& slots = steady_.devices[d];
    const std::uint32_t apart = periods * slots.period;
    std::uint32_t latest_then = 0, latest = 0;
    const auto goes_along = [&](std::uint32_t before, std::uint32_t after) {
      if (before < slots.first || after != before + apart || after >= slots.last) return false;
      latest_then = std::max(latest_then, before);
      latest = std::max(latest, after);
      return true;
    };
    for (std::uint32_t s = flat_.first_stream[d]; s < flat_.first_stream[d + 1]; ++s) {
      if (goes_along(then.slots[s], now.slots[s])) continue;
      if (then.slots[s] != now.slots[s]) return 0;
      if (!frontier.done(s) && !frontier.waits_beyond(d, s, slots.last)) return 0;
    }
    if (latest == 0) return 0;
    if (now.issuing[d] == kNoOp ? !frontier.host_repeats(d, latest_then, then.at, apart, time)
                                : !goes_along(then.issuing[d], now.issuing[d]))
      return 0;
    times = std::min(times, (slots.last - 1 - latest) / apart);
  }
  return times;
}

}  // namespace steploom
