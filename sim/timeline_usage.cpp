#include "sim/timeline_usage.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "sim/intervals.h"

namespace steploom {
namespace {

std::string what_of(const Timeline& t, const TimelineEvent& e) {
  std::string group(name_of(e.group_kind));
  if (e.group_kind == CommGroup::none) group = e.group == kNoGroup ? "" : t.groups[e.group].name;
  return group + (group.empty() ? "" : " ") + std::string(name_of(e.kind));
}

struct CommunicationSpans {
  Intervals busy, waiting;
};

// A device's moments, as its events give them.
struct DeviceSpans {
  Intervals compute;               // some compute kernel runs
  Intervals progressing;           // some communication moves
  Intervals communicating;         // moves or waits
  std::vector<Intervals> streams;  // by stream: busy
  std::map<std::string, CommunicationSpans> communication;
};

// Until its peers are there, a collective waits.
Picoseconds moving_from(const TimelineEvent& e) {
  return e.joined == kUnknownTime ? e.start : e.joined;
}

DeviceSpans spans_of(const Timeline& t, std::size_t first, std::size_t end) {
  DeviceSpans out;
  out.streams.resize(t.streams.size());
  Intervals communicating, progressing, compute;
  for (std::size_t i = first; i < end; ++i) {
    const TimelineEvent& e = t.events[i];
    out.streams[e.stream].push_back({e.start, e.end});
    if (!is_communication(e.kind)) {
      compute.push_back({e.start, e.end});
      continue;
    }
    CommunicationSpans& of = out.communication[what_of(t, e)];
    of.busy.push_back({e.start, e.end});
    of.waiting.push_back({e.start, moving_from(e)});
    communicating.push_back({e.start, e.end});
    progressing.push_back({moving_from(e), e.end});
  }
  for (Intervals& s : out.streams) s = unite(std::move(s));
  for (auto& [what, of] : out.communication)
    of = {unite(std::move(of.busy)), unite(std::move(of.waiting))};
  out.communicating = unite(std::move(communicating));
  out.progressing = unite(std::move(progressing));
  out.compute = unite(std::move(compute));
  return out;
}

// Moments of idle before a compute kernel that its host had not yet issued.
Intervals unissued(const Timeline& t, std::size_t first, std::size_t end, const Intervals& idle) {
  std::vector<const TimelineEvent*> kernels;
  for (std::size_t i = first; i < end; ++i)
    if (!is_communication(t.events[i].kind)) kernels.push_back(&t.events[i]);
  std::stable_sort(kernels.begin(), kernels.end(),
                   [](const auto* x, const auto* y) { return x->start < y->start; });
  Intervals out;
  auto next = kernels.begin();
  for (const Interval& gap : idle) {
    next = std::find_if(next, kernels.end(), [&](const auto* k) { return k->start >= gap.end; });
    if (next == kernels.end()) break;
    if ((*next)->issued > gap.start) out.push_back({gap.start, std::min((*next)->issued, gap.end)});
  }
  return out;
}

Intervals without(const Intervals& set, const Intervals& taken, Picoseconds end) {
  return common(set, complement(taken, end));
}

// Sums over ranks, to become means.
struct Sums {
  std::array<double, kOpClasses> by_class{};
  std::vector<double> streams;
  struct Communication {
    double busy = 0, exposed = 0, waiting = 0;
  };
  std::map<std::string, Communication> communication;
  double moving = 0, peers = 0, host = 0, other = 0, ranks = 0;
};

void add_device(const Timeline& t, std::uint32_t d, std::size_t first, std::size_t end,
                Sums& sums) {
  const double ranks = t.devices[d].multiplicity;
  const auto weighed = [&](Picoseconds time) { return static_cast<double>(time) * ranks; };
  sums.ranks += ranks;
  for (std::size_t i = first; i < end; ++i)
    sums.by_class[static_cast<std::size_t>(class_of(t.events[i].kind))] +=
        weighed(t.events[i].end - t.events[i].start);
  const DeviceSpans spans = spans_of(t, first, end);
  for (std::size_t s = 0; s < spans.streams.size(); ++s)
    sums.streams[s] += weighed(length(spans.streams[s]));
  for (const auto& [what, of] : spans.communication) {
    Sums::Communication& sum = sums.communication[what];
    sum.busy += weighed(length(of.busy));
    sum.exposed += weighed(length(without(of.busy, spans.compute, t.makespan)));
    sum.waiting += weighed(length(of.waiting));
  }
  const Intervals idle = complement(spans.compute, t.makespan);
  const Picoseconds moving = length(common(idle, spans.progressing));
  const Picoseconds communicating = length(common(idle, spans.communicating));
  const Picoseconds host =
      length(without(unissued(t, first, end, idle), spans.communicating, t.makespan));
  sums.moving += weighed(moving);
  sums.peers += weighed(communicating - moving);
  sums.host += weighed(host);
  sums.other += weighed(length(idle) - communicating - host);
}

}  // namespace

TimelineUsage usage_of(const Timeline& t) {
  Sums sums;
  sums.streams.resize(t.streams.size());
  std::size_t first = 0;
  for (std::uint32_t d = 0; d < t.devices.size(); ++d) {
    std::size_t end = first;
    while (end < t.events.size() && t.events[end].device == d) ++end;
    add_device(t, d, first, end, sums);
    first = end;
  }
  const auto mean = [&](double sum) {
    return sums.ranks > 0 ? static_cast<Picoseconds>(std::llround(sum / sums.ranks)) : 0;
  };
  TimelineUsage out;
  for (std::size_t c = 0; c < sums.by_class.size(); ++c) out.by_class[c] = mean(sums.by_class[c]);
  for (std::size_t s = 0; s < sums.streams.size(); ++s)
    if (sums.streams[s] > 0) out.streams.push_back({t.streams[s], mean(sums.streams[s])});
  for (const auto& [what, sum] : sums.communication)
    out.communication.push_back({what, mean(sum.busy), mean(sum.exposed), mean(sum.waiting)});
  out.idle = {mean(sums.moving), mean(sums.peers), mean(sums.host), mean(sums.other)};
  return out;
}

}  // namespace steploom
