// The flows of the contended engine: what progresses, how fast, and when it ends.
//
// See engine_contended.h. Flows turns local rates (a stream's, from the SMs that it holds and the
// kernels beside it) into ends: the least over a collective's members, capped by the links.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/event_tree.h"
#include "sim/flat_program.h"
#include "sim/link_sharing.h"

namespace steploom {

// Numbers to look at, each once, in the order in which they were first named.
class MarkList {
 public:
  explicit MarkList(std::size_t n) : marked_(n, 0) { items_.reserve(n); }
  bool mark(std::uint32_t i) {  // false: it was
    if (marked_[i]) return false;
    marked_[i] = 1;
    items_.push_back(i);
    return true;
  }
  const std::vector<std::uint32_t>& items() const { return items_; }
  void clear() {
    for (const std::uint32_t i : items_) marked_[i] = 0;
    items_.clear();
  }

 private:
  std::vector<std::uint32_t> items_;
  std::vector<std::uint8_t> marked_;
};

class Flows {
 public:
  Flows(const FlatProgram& flat, EventTree& events);

  // A stream whose operator has become resident; it progresses once it is given a flow.
  void arrive(std::uint32_t stream) { streams_[stream] = Stream{}; }

  // A flow of `work` led by `leader`, which may draw `link_share` on the links of communicator
  // `communicator` (kNoOp: none). Members after the first are chained by join().
  void begin(std::uint32_t leader, Picoseconds work, Picoseconds now, std::uint32_t communicator,
             std::uint32_t link_share);
  void join(std::uint32_t leader, std::uint32_t member);
  void finish(std::uint32_t leader);  // before its members are released

  // The members of a flow: the leader, then next_member() until kNoOp.
  std::uint32_t next_member(std::uint32_t stream) const { return streams_[stream].next_member; }

  // The rate that the stream's own device allows.
  void set_local(std::uint32_t stream, std::uint32_t rate) {
    Stream& s = streams_[stream];
    if (s.local == rate) return;
    s.local = rate;
    if (s.leader != kNoOp) changed_.mark(s.leader);
  }
  // Recomputes the flows whose local rates, or whose links' other flows, have changed.
  void settle(Picoseconds now);

  // For skipping periods (steady_state.h): what a resident stream's progress depends on.
  void append_state(std::uint32_t stream, Picoseconds now, std::vector<std::int64_t>& state) const;
  void delay(std::uint32_t stream, Picoseconds by) { streams_[stream].since += by; }

  static std::size_t bytes_per_stream() { return sizeof(Stream) + sizeof(std::uint32_t) + 1; }

 private:
  struct Stream {
    std::uint64_t remaining = 0;   // leader: work left at `since`
    Picoseconds since = 0;         // leader: when `rate` was set
    std::uint32_t rate = 0;        // leader: 0 until settled
    std::uint32_t local = 0;       // rate that the device allows
    std::uint32_t leader = kNoOp;  // of the flow that it is in
    std::uint32_t next_member = kNoOp;
    std::uint32_t communicator = kNoOp;  // leader: whose links it draws on
    std::uint32_t link_share = 0;        // leader; 0: draws on no link
  };

  std::uint32_t cap(std::uint32_t leader) const;  // the least local rate over its members
  void set_rate(std::uint32_t leader, std::uint32_t rate, Picoseconds now);
  const std::vector<LinkUse>& uses(std::uint32_t leader) const {
    return program_.communicators[streams_[leader].communicator].uses;
  }
  // Rates of all flows that share this link, or links with those, directly or through others.
  void share_links(std::uint32_t link, Picoseconds now);

  const Program& program_;
  EventTree& events_;
  std::vector<Stream> streams_;
  std::vector<std::vector<std::uint32_t>> active_;  // by link: leaders of flows that draw on it
  MarkList changed_;                                // leaders
  MarkList changed_links_;
  MarkList seen_links_, seen_flows_;  // whose rates settle() has set
  LinkSharing sharing_;
};

}  // namespace steploom
