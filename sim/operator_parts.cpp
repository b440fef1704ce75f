#include "sim/operator_parts.h"

#include <algorithm>

namespace steploom {

OperatorParts parts_of(const TimelineIndex& index, std::uint32_t event, const KnownTimes& known) {
  const std::vector<TimelineEvent>& events = index.timeline().events;
  const TimelineEvent& e = events[event];
  OperatorParts parts;
  const auto after = [&](std::uint32_t other) {
    if (other == kNoEvent || events[other].end > e.start) return;
    if (parts.reason != kNoEvent && events[other].end <= parts.before) return;
    parts.before = events[other].end;
    parts.reason = other;
  };
  after(index.before_in_stream(event));
  if (known.waits)
    for (const std::uint32_t w : index.waits(event)) after(w);
  else
    after(index.last_ended(event));

  const Picoseconds ready = known.issued ? std::max(parts.before, e.issued) : parts.before;
  parts.launch_gap = ready - parts.before;
  if (known.waits) parts.admission = index.held(event, ready, e.start);
  parts.start_delay = e.start - ready - parts.admission;
  const Picoseconds joined = known.joined ? e.joined : e.start;
  parts.peer = joined - e.start;
  parts.run = e.end - joined;
  parts.beside = index.beside(event, joined, e.end);
  return parts;
}

}  // namespace steploom
