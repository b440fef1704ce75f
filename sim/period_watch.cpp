#include "sim/period_watch.h"

#include <algorithm>
#include <utility>

namespace steploom {
namespace {

constexpr std::size_t kMoments = 32;  // the longest recurrence that is found, in periods

Picoseconds longest_latency(const FlatProgram& flat) {
  std::uint32_t longest = 0;
  for (const FlatOp& op : flat.ops) longest = std::max({longest, op.stream_gap, op.event_latency});
  return longest;
}

}  // namespace

PeriodWatch::PeriodWatch(const FlatProgram& flat, SteadyState steady)
    : flat_(flat),
      steady_(std::move(steady)),
      next_slot_(kNoOp),
      window_(longest_latency(flat) + 1) {
  const SteadySlots& slots = steady_.devices.front();
  const FlatBlock& block = flat.blocks[flat.program.slots[slots.first].block];
  std::uint32_t local = 0;
  while (local < block.lists && flat.stream_ops(slots.first, local).empty()) ++local;
  if (local == block.lists) return;
  stream_ = flat.first_stream[slots.device] + local;
  next_slot_ = slots.first;
}

PeriodWatch::Found PeriodWatch::look(Moment now, const Frontier& frontier) {
  const SteadySlots& slots = steady_.devices.front();
  const std::uint32_t slot = frontier.head(stream_).slot;
  next_slot_ = slot + slots.period - (slot - slots.first) % slots.period;
  if (next_slot_ >= slots.last) next_slot_ = kNoOp;
  const std::uint32_t stream = stream_ - flat_.first_stream[slots.device];  // among the group's
  Found found;
  for (auto then = moments_.rbegin(); then != moments_.rend(); ++then) {
    const std::uint32_t apart = slot - then->slots[stream];
    if (apart % slots.period != 0) continue;
    const std::uint32_t periods = apart / slots.period;
    const std::uint32_t times = repeats(*then, now, periods, frontier);
    if (times == 0) continue;
    const Program& p = flat_.program;
    std::size_t at = 0;  // among the group's streams
    for (const SteadySlots& d : steady_.devices) {
      std::uint32_t earliest = kNoOp, latest = 0;  // slots of heads that go along
      for (const std::size_t next = at + p.devices[d.device].streams; at < next; ++at) {
        if (now.slots[at] == then->slots[at]) continue;
        earliest = std::min(earliest, now.slots[at]);
        latest = std::max(latest, now.slots[at]);
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
    found.from = *then;
    found.times = times;
    found.periods = times * periods;
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
  std::size_t at = 0;  // among the group's streams
  for (std::size_t i = 0; i < steady_.devices.size(); ++i) {
    const SteadySlots& slots = steady_.devices[i];
    const std::uint32_t d = slots.device;
    const std::uint32_t apart = periods * slots.period;
    std::uint32_t latest_then = 0, latest = 0;
    const auto goes_along = [&](std::uint32_t before, std::uint32_t after) {
      if (before < slots.first || after != before + apart || after >= slots.last) return false;
      latest_then = std::max(latest_then, before);
      latest = std::max(latest, after);
      return true;
    };
    for (std::uint32_t s = flat_.first_stream[d]; s < flat_.first_stream[d + 1]; ++s, ++at) {
      if (goes_along(then.slots[at], now.slots[at])) continue;
      if (then.slots[at] != now.slots[at]) return 0;
      if (!frontier.done(s) && !frontier.waits_beyond(d, s, slots.last)) return 0;
    }
    if (latest == 0) return 0;
    if (now.issuing[i] == kNoOp ? !frontier.host_repeats(d, latest_then, then.at, apart, time)
                                : !goes_along(then.issuing[i], now.issuing[i]))
      return 0;
    times = std::min(times, (slots.last - 1 - latest) / apart);
  }
  return times;
}

}  // namespace steploom
