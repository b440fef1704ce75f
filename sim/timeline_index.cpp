#include "sim/timeline_index.h"

#include <algorithm>
#include <map>
#include <utility>

#include "sim/intervals.h"

namespace steploom {

TimelineIndex::TimelineIndex(const Timeline& t)
    : t_(t),
      before_(t.events.size(), kNoEvent),
      lanes_(t.devices.size() * t.streams.size()),
      meeting_of_(t.events.size(), kNoEvent) {
  std::vector<std::uint32_t> last(lanes_.size(), kNoEvent);
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> issued;  // by group and device
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> known;   // by group and k
  for (std::uint32_t e = 0; e < t.events.size(); ++e) {
    const TimelineEvent& event = t.events[e];
    const std::size_t at = event.device * t.streams.size() + event.stream;
    before_[e] = std::exchange(last[at], e);
    if (event.end > event.start) lanes_[at].events.push_back(e);
    if (event.group == kNoGroup) continue;
    const std::uint32_t k = issued[{event.group, event.device}]++;
    const auto [meeting, is_new] =
        known.try_emplace({event.group, k}, static_cast<std::uint32_t>(meetings_.size()));
    if (is_new) meetings_.emplace_back();
    meetings_[meeting->second].push_back(e);
    meeting_of_[e] = meeting->second;
  }
  for (Lane& lane : lanes_) {
    std::stable_sort(lane.events.begin(), lane.events.end(), [&](std::uint32_t a, std::uint32_t b) {
      return t.events[a].start < t.events[b].start;
    });
    for (const std::uint32_t e : lane.events)
      lane.latest_end.push_back(
          std::max(lane.latest_end.empty() ? 0 : lane.latest_end.back(), t.events[e].end));
  }
}

std::size_t TimelineIndex::started_before(const Lane& lane, Picoseconds time) const {
  return static_cast<std::size_t>(
      std::partition_point(lane.events.begin(), lane.events.end(),
                           [&](std::uint32_t e) { return t_.events[e].start < time; }) -
      lane.events.begin());
}

bool TimelineIndex::beside(std::uint32_t event, Picoseconds from, Picoseconds to) const {
  const TimelineEvent& mine = t_.events[event];
  for (std::size_t s = 0; s < t_.streams.size(); ++s) {
    if (s == mine.stream || from >= to) continue;
    const Lane& other = lane(mine.device, s);
    const std::size_t count = started_before(other, to);
    if (count > 0 && other.latest_end[count - 1] > from) return true;
  }
  return false;
}

Picoseconds TimelineIndex::held(std::uint32_t event, Picoseconds from, Picoseconds to) const {
  const TimelineEvent& mine = t_.events[event];
  Intervals found;
  for (std::size_t s = 0; s < t_.streams.size(); ++s) {
    if (s == mine.stream || from >= to) continue;
    const Lane& other = lane(mine.device, s);
    for (std::size_t i = started_before(other, to); i > 0 && other.latest_end[i - 1] > from; --i) {
      const TimelineEvent& e = t_.events[other.events[i - 1]];
      found.push_back({std::max(e.start, from), std::min(e.end, to)});
    }
  }
  return length(unite(std::move(found)));
}

std::uint32_t TimelineIndex::last_ended(std::uint32_t event) const {
  const TimelineEvent& mine = t_.events[event];
  std::uint32_t best = kNoEvent;
  for (std::size_t s = 0; s < t_.streams.size(); ++s) {
    const Lane& other = lane(mine.device, s);
    for (std::size_t i = started_before(other, mine.start); i > 0; --i) {
      const std::uint32_t e = other.events[i - 1];
      if (t_.events[e].end > mine.start) continue;
      if (best == kNoEvent || t_.events[e].end > t_.events[best].end) best = e;
      break;
    }
  }
  return best;
}

std::span<const std::uint32_t> TimelineIndex::waits(std::uint32_t event) const {
  if (t_.first_wait.empty()) return {};
  return std::span(t_.waits).subspan(t_.first_wait[event],
                                     t_.first_wait[event + 1] - t_.first_wait[event]);
}

TimelineIndex::Comer TimelineIndex::last_to_come(std::uint32_t event) const {
  const TimelineEvent& mine = t_.events[event];
  if (mine.joined <= mine.start || meeting_of_[event] == kNoEvent) return {event, false};
  std::uint32_t latest = event;
  for (const std::uint32_t m : meetings_[meeting_of_[event]])
    if (t_.events[m].start > t_.events[latest].start) latest = m;
  if (t_.events[latest].start == mine.joined) return {latest, false};
  for (const std::uint32_t m : meetings_[meeting_of_[event]])
    if (m != event && t_.events[m].end == mine.joined) return {m, true};
  return {latest, false};  // clocks of measured devices differ a little
}

}  // namespace steploom
