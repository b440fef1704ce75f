#include "sim/timeline_match.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <tuple>

namespace steploom {
namespace {

std::string slot_text(const Timeline& t, const TimelineSlot& s) {
  std::string text = fmt::format("{} of {}", t.names[s.name], t.devices[s.device].name);
  if (s.micro_batch >= 0) text += fmt::format(", micro-batch {}", s.micro_batch);
  return text;
}

// By number of a stream of `other`, the number of the stream of that name in `t`; if there is
// none, a number beyond all.
std::vector<std::size_t> streams_of(const Timeline& t, const Timeline& other) {
  std::vector<std::size_t> out;
  for (const std::string& name : other.streams)
    out.push_back(static_cast<std::size_t>(std::find(t.streams.begin(), t.streams.end(), name) -
                                           t.streams.begin()));
  return out;
}

// Events slot by slot, in a slot stream by stream.
std::vector<std::uint32_t> in_order(const Timeline& t, const std::vector<std::size_t>& streams) {
  std::vector<std::uint32_t> order(t.events.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto key = [&](std::uint32_t e) {
    return std::tuple(t.events[e].slot, streams[t.events[e].stream], e);
  };
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t x, std::uint32_t y) { return key(x) < key(y); });
  return order;
}

std::string slots_differ(const Timeline& a, const Timeline& b) {
  if (a.devices.size() != b.devices.size())
    return fmt::format("{} device(s) in A, {} in B", a.devices.size(), b.devices.size());
  if (a.slots.size() != b.slots.size())
    return fmt::format("{} slots in A, {} in B", a.slots.size(), b.slots.size());
  for (std::size_t s = 0; s < a.slots.size(); ++s) {
    const TimelineSlot &x = a.slots[s], &y = b.slots[s];
    if (x.device != y.device || x.micro_batch != y.micro_batch || x.beside != y.beside || x.kind != y.kind ||
        a.names[x.name] != b.names[y.name])
      return fmt::format("slot {} is {} in A, {} in B", s, slot_text(a, x), slot_text(b, y));
  }
  if (a.events.size() != b.events.size())
    return fmt::format("{} operators in A, {} in B", a.events.size(), b.events.size());
  return "";
}

}  // namespace

TimelineMatch match_timelines(const Timeline& a, const Timeline& b) {
  TimelineMatch match;
  match.why_not = slots_differ(a, b);
  if (!match.same()) return match;
  const std::vector<std::size_t> streams = streams_of(a, b);
  const std::vector<std::uint32_t> of_a = in_order(a, streams_of(a, a));
  const std::vector<std::uint32_t> of_b = in_order(b, streams);
  match.b_of_a.resize(a.events.size());
  for (std::size_t i = 0; i < of_a.size(); ++i) {
    const TimelineEvent &x = a.events[of_a[i]], &y = b.events[of_b[i]];
    if (x.slot != y.slot || x.stream != streams[y.stream] || x.kind != y.kind ||
        a.names[x.name] != b.names[y.name]) {
      const auto text = [](const Timeline& t, const TimelineEvent& e) {
        return fmt::format("'{}' on stream {}", t.names[e.name], t.streams[e.stream]);
      };
      match.why_not = fmt::format("in {}: {} in A, {} in B", slot_text(a, a.slots[x.slot]),
                                  text(a, x), text(b, y));
      match.b_of_a.clear();
      return match;
    }
    match.b_of_a[of_a[i]] = of_b[i];
  }
  return match;
}

}  // namespace steploom
