#include "sim/flows.h"

#include <algorithm>

#include "models/error.h"

namespace steploom {

Flows::Flows(const FlatProgram& flat, EventTree& events)
    : program_(flat.program),
      events_(events),
      streams_(flat.first_stream.back()),
      changed_(flat.first_stream.back()),
      changed_links_(flat.program.links),
      seen_links_(flat.program.links),
      seen_flows_(flat.first_stream.back()),
      sharing_(flat.program.links) {
  active_.resize(flat.program.links);
}

void Flows::begin(std::uint32_t leader, Picoseconds work, Picoseconds now,
                  std::uint32_t communicator, std::uint32_t link_share) {
  Stream& s = streams_[leader];
  s.remaining = static_cast<std::uint64_t>(work);
  s.since = now;
  s.rate = 0;
  s.leader = leader;
  changed_.mark(leader);
  if (communicator == kNoOp || link_share == 0) return;
  if (program_.communicators[communicator].uses.empty()) return;
  s.communicator = communicator;
  s.link_share = link_share;
  for (const LinkUse& use : uses(leader)) active_[use.link].push_back(leader);
}

void Flows::join(std::uint32_t leader, std::uint32_t member) {
  streams_[member].leader = leader;
  streams_[member].next_member = streams_[leader].next_member;
  streams_[leader].next_member = member;
}

void Flows::finish(std::uint32_t leader) {
  if (streams_[leader].link_share == 0) return;
  for (const LinkUse& use : uses(leader)) {
    std::vector<std::uint32_t>& active = active_[use.link];
    *std::find(active.begin(), active.end(), leader) = active.back();
    active.pop_back();
    changed_links_.mark(use.link);
  }
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

void Flows::share_links(std::uint32_t link, Picoseconds now) {
  std::size_t l = seen_links_.items().size();
  const std::size_t first = seen_flows_.items().size();
  if (!seen_links_.mark(link)) return;
  sharing_.clear();
  for (; l < seen_links_.items().size(); ++l)
    for (const std::uint32_t leader : active_[seen_links_.items()[l]]) {
      if (!seen_flows_.mark(leader)) continue;
      sharing_.add_flow(cap(leader));
      for (const LinkUse& use : uses(leader)) {
        seen_links_.mark(use.link);
        sharing_.add_draw(use.link,
                          std::uint64_t{use.share} * streams_[leader].link_share / 0xffff);
      }
    }
  sharing_.solve();
  for (std::size_t i = first; i < seen_flows_.items().size(); ++i)
    set_rate(seen_flows_.items()[i], sharing_.rate(i - first), now);
}

void Flows::settle(Picoseconds now) {
  for (const std::uint32_t leader : changed_.items()) {
    const Stream& s = streams_[leader];
    if (s.leader != leader) continue;
    if (s.link_share == 0)
      set_rate(leader, cap(leader), now);
    else
      changed_links_.mark(uses(leader).front().link);
  }
  changed_.clear();
  for (const std::uint32_t link : changed_links_.items()) share_links(link, now);
  changed_links_.clear();
  seen_links_.clear();
  seen_flows_.clear();
}

}  // namespace steploom
