#include "sim/flows.h"

#include <numeric>

#include "models/error.h"

namespace steploom {
namespace {

// Connected components of communicators that share links, numbered from 0.
std::vector<std::uint32_t> groups_by_link(const Program& p, std::uint32_t& groups) {
  std::vector<std::uint32_t> parent(p.links);
  std::iota(parent.begin(), parent.end(), 0u);
  const auto root = [&parent](std::uint32_t l) {
    while (parent[l] != l) l = parent[l] = parent[parent[l]];
    return l;
  };
  for (const Communicator& c : p.communicators)
    for (const LinkUse& use : c.uses) parent[root(use.link)] = root(c.uses.front().link);
  std::vector<std::uint32_t> number(p.links, kNoOp), group_of;
  groups = 0;
  for (const Communicator& c : p.communicators) {
    if (c.uses.empty()) {
      group_of.push_back(kNoOp);
      continue;
    }
    std::uint32_t& n = number[root(c.uses.front().link)];
    if (n == kNoOp) n = groups++;
    group_of.push_back(n);
  }
  return group_of;
}

}  // namespace

Flows::Flows(const FlatProgram& flat, EventTree& events)
    : program_(flat.program),
      events_(events),
      streams_(flat.first_stream.back()),
      changed_(flat.first_stream.back()),
      changed_groups_(flat.program.communicators.size()),
      sharing_(flat.program.links) {
  std::uint32_t groups = 0;
  group_of_ = groups_by_link(program_, groups);
  active_.resize(groups);
}

void Flows::begin(std::uint32_t leader, Picoseconds work, Picoseconds now,
                  std::uint32_t communicator, std::uint32_t link_share) {
  Stream& s = streams_[leader];
  s.remaining = static_cast<std::uint64_t>(work);
  s.since = now;
  s.rate = 0;
  s.leader = leader;
  changed_.mark(leader);
  s.group = communicator == kNoOp || link_share == 0 ? kNoOp : group_of_[communicator];
  if (s.group == kNoOp) return;
  s.communicator = communicator;
  s.link_share = link_share;
  s.place = static_cast<std::uint32_t>(active_[s.group].size());
  active_[s.group].push_back(leader);
}

void Flows::join(std::uint32_t leader, std::uint32_t member) {
  streams_[member].leader = leader;
  streams_[member].next_member = streams_[leader].next_member;
  streams_[leader].next_member = member;
}

void Flows::finish(std::uint32_t leader) {
  const Stream& s = streams_[leader];
  if (s.group == kNoOp) return;
  std::vector<std::uint32_t>& active = active_[s.group];
  active[s.place] = active.back();
  streams_[active[s.place]].place = s.place;
  active.pop_back();
  changed_groups_.mark(s.group);
}

std::uint32_t Flows::cap(std::uint32_t leader) const {
  std::uint32_t rate = streams_[leader].local;
  for (std::uint32_t m = streams_[leader].next_member; m != kNoOp; m = streams_[m].next_member)
    rate = std::min(rate, streams_[m].local);
  return rate;
}

void Flows::set_rate(std::uint32_t leader, std::uint32_t rate, Picoseconds now) {
  Stream& s = streams_[leader];
  if (s.rate == rate) return;
  const std::uint64_t done = static_cast<std::uint64_t>(now - s.since) * s.rate / kFullRate;
  s.remaining -= std::min(done, s.remaining);
  s.since = now;
  s.rate = rate;
  const Picoseconds end =
      now + static_cast<Picoseconds>((s.remaining * kFullRate + rate - 1) / rate);
  if (end >= kUnknown)
    throw Error({"replay", "", "a step of at most 2^62 ps", "one that takes longer", ""});
  events_.set(leader, end);
}

void Flows::append_state(std::uint32_t stream, Picoseconds now,
                         std::vector<std::int64_t>& state) const {
  const Stream& s = streams_[stream];
  state.insert(state.end(), {s.local, s.leader, s.next_member});
  if (s.leader != stream) return;
  state.insert(state.end(), {static_cast<std::int64_t>(s.remaining), s.since - now, s.rate,
                             s.communicator, s.link_share});
}

void Flows::share_links(std::uint32_t group, Picoseconds now) {
  sharing_.clear();
  for (const std::uint32_t leader : active_[group]) {
    const Stream& s = streams_[leader];
    sharing_.add_flow(cap(leader));
    for (const LinkUse& use : program_.communicators[s.communicator].uses)
      sharing_.add_draw(use.link, std::uint64_t{use.share} * s.link_share / 0xffff);
  }
  sharing_.solve();
  for (std::size_t i = 0; i < active_[group].size(); ++i)
    set_rate(active_[group][i], sharing_.rate(i), now);
}

void Flows::settle(Picoseconds now) {
  for (const std::uint32_t leader : changed_.items()) {
    if (streams_[leader].leader != leader) continue;
    if (streams_[leader].group == kNoOp)
      set_rate(leader, cap(leader), now);
    else
      changed_groups_.mark(streams_[leader].group);
  }
  changed_.clear();
  for (const std::uint32_t group : changed_groups_.items()) share_links(group, now);
  changed_groups_.clear();
}

}  // namespace steploom
