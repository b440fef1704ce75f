#include "sim/side_by_side.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

namespace steploom {
namespace {

template <class Number>
void shift(Number& index, std::size_t by, Number none) {
  if (index != none) index += static_cast<Number>(by);
}

void append(Timeline& out, const Timeline& t, const std::string& name) {
  const std::size_t devices = out.devices.size(), groups = out.groups.size(),
                    slots = out.slots.size(), events = out.events.size();
  out.makespan = std::max(out.makespan, t.makespan);
  std::unordered_map<std::string, std::uint32_t> known;
  for (std::uint32_t n = 0; n < out.names.size(); ++n) known[out.names[n]] = n;
  std::vector<std::uint32_t> names;
  for (const std::string& text : t.names) {
    const auto [it, is_new] = known.try_emplace(text, static_cast<std::uint32_t>(out.names.size()));
    if (is_new) out.names.push_back(text);
    names.push_back(it->second);
  }
  std::vector<std::uint16_t> streams;
  for (const std::string& s : t.streams) {
    const auto at = std::find(out.streams.begin(), out.streams.end(), s) - out.streams.begin();
    streams.push_back(static_cast<std::uint16_t>(at));
    if (static_cast<std::size_t>(at) == out.streams.size()) out.streams.push_back(s);
  }
  for (TimelineDevice d : t.devices) {
    d.name = name + " · " + d.name;
    out.devices.push_back(std::move(d));
  }
  for (TimelineGroup g : t.groups) {
    g.name = name + " · " + g.name;
    for (std::uint32_t& m : g.members) m += static_cast<std::uint32_t>(devices);
    out.groups.push_back(std::move(g));
  }
  for (TimelineSlot s : t.slots) {
    s.device += static_cast<std::uint32_t>(devices);
    s.name = names[s.name];
    out.slots.push_back(s);
  }
  for (TimelineEvent e : t.events) {
    e.device += static_cast<std::uint32_t>(devices);
    e.slot += static_cast<std::uint32_t>(slots);
    e.name = names[e.name];
    shift(e.group, groups, kNoGroup);
    shift(e.peer, events, kNoEvent);
    e.stream = streams[e.stream];
    out.events.push_back(e);
  }
  for (MemorySample m : t.memory) {
    m.device += static_cast<std::uint32_t>(devices);
    out.memory.push_back(m);
  }
}

}  // namespace

Timeline side_by_side(const Timeline& a, const std::string& name_a, const Timeline& b,
                      const std::string& name_b) {
  Timeline out;
  out.origin = a.origin;
  append(out, a, name_a);
  append(out, b, name_b);
  std::stable_sort(out.memory.begin(), out.memory.end(),
                   [](const auto& x, const auto& y) { return x.time < y.time; });
  return out;
}

}  // namespace steploom
