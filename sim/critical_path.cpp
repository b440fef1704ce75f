#include "sim/critical_path.h"

#include <algorithm>
#include <cassert>
#include <optional>

namespace steploom {
namespace {

constexpr std::array<std::string_view, kCauses> kCauseNames{
    "stream", "dependency", "slot edge", "rendezvous", "connection", "host", "waiting"};
constexpr std::uint32_t kNone = 0xffffffff;

// A block seen from behind.
struct BlockBefore {
  std::vector<std::uint32_t> in_stream;       // by template index: the one before it in its stream
  std::vector<std::uint32_t> last_in_stream;  // by stream: its last operator
  std::vector<std::uint32_t> wait;            // by template index: the last host wait before it
  std::vector<Picoseconds> issue;             // host time from that wait, or the slot's start
  std::vector<std::uint32_t> comm_ordinal;    // communication operators before it
  std::uint32_t last_wait = kNone;
  Picoseconds tail = 0;  // host time after the last wait
};

BlockBefore look_back(const BlockTemplate& block) {
  BlockBefore b;
  std::uint32_t comm_ops = 0;
  for (std::uint32_t i = 0; i < block.ops.size(); ++i) {
    const OpTemplate& op = block.ops[i];
    if (op.stream >= b.last_in_stream.size()) b.last_in_stream.resize(op.stream + 1U, kNone);
    b.in_stream.push_back(b.last_in_stream[op.stream]);
    b.last_in_stream[op.stream] = i;
    b.wait.push_back(b.last_wait);
    b.issue.push_back(b.tail += op.launch);
    b.comm_ordinal.push_back(comm_ops);
    if (op.role != kNoRole) ++comm_ops;
    if (op.host_waits) {
      b.last_wait = i;
      b.tail = 0;
    }
  }
  return b;
}

// Where the host stands when it begins a slot: after which host wait, and how long after.
struct SlotBase {
  std::uint32_t wait = kNone;  // operator id
  Picoseconds issue = 0;       // from the wait's end, or the step's start
};

struct Place {
  std::uint32_t slot = 0;
  std::uint32_t index = 0;  // in its block
};

// Something that had to be there before an operator could start.
struct Reason {
  Picoseconds at = 0;        // when it was there
  Picoseconds lets_go = 0;   // and, gap or latency over, let the operator start
  std::uint32_t op = kNone;  // where the walk goes on; kNone: the step's start
  Cause cause = Cause::host;
};

class Walk {
 public:
  Walk(const Program& p, const Replay& r) : p_(p), r_(r), bases_(p.slots.size()) {
    for (const BlockTemplate& block : p.blocks) blocks_.push_back(look_back(block));
    for (const Device& device : p.devices) {
      SlotBase base;
      for (std::uint32_t s = device.first_slot; s < device.first_slot + device.slot_count; ++s) {
        bases_[s] = base;
        const BlockBefore& block = blocks_[p.slots[s].block];
        if (block.last_wait != kNone)
          base = {p.slots[s].first_op + block.last_wait, block.tail};
        else
          base.issue += block.tail;
      }
    }
  }

  CriticalPath run() {
    const auto last = std::max_element(r_.end.begin(), r_.end.end());
    if (last == r_.end.end()) return {};
    time_ = *last;
    Point at{static_cast<std::uint32_t>(last - r_.end.begin()), false};
    while (at.op != kNone) at = at.is_start ? before_start(at.op) : before_end(at.op);
    std::reverse(path_.segments.begin(), path_.segments.end());
    return std::move(path_);
  }

 private:
  // What is to be explained next: why an operator ended, or started, at time_. kNone: nothing.
  struct Point {
    std::uint32_t op = kNone;
    bool is_start = false;
  };

  Place place(std::uint32_t op) const {
    const std::uint32_t slot = slot_of_op(p_, op);
    return {slot, op - p_.slots[slot].first_op};
  }
  const BlockTemplate& block(const Place& at) const { return p_.blocks[p_.slots[at.slot].block]; }
  const BlockBefore& behind(const Place& at) const { return blocks_[p_.slots[at.slot].block]; }

  Point before_end(std::uint32_t op) {
    const Place at = place(op);
    const std::uint32_t other = last_to_come(op, at);
    if (other == kNone) return {op, true};
    add(op, at, came(other), Cause::rendezvous, false);
    return {other, !block(at).ops[at.index].eager};
  }

  Point before_start(std::uint32_t op) {
    const Place at = place(op);
    const Picoseconds start = std::min(r_.start[op], time_);
    const Reason reason = reason_for(op, at, start);
    const bool waited = reason.lets_go < start;
    add(op, at, start, waited ? Cause::waiting : reason.cause, false);
    add(op, at, reason.at, Cause::waiting, true);
    if (reason.cause == Cause::host)
      add(op, at, reason.op == kNone ? 0 : r_.end[reason.op], Cause::host, true);
    return {reason.op, reason.cause == Cause::connection};
  }

  // When a member of a rendezvous let the others go on.
  Picoseconds came(std::uint32_t op) const {
    const Place at = place(op);
    return block(at).ops[at.index].eager ? r_.end[op] : r_.start[op];
  }

  // The other member for which this one, having started, waited last; kNone: it waited for none.
  std::uint32_t last_to_come(std::uint32_t op, const Place& at) const {
    const OpTemplate& mine = block(at).ops[at.index];
    if (mine.role == kNoRole || (mine.eager && mine.sender)) return kNone;
    const std::uint32_t r =
        p_.rendezvous_of[p_.first_comm_op[at.slot] + behind(at).comm_ordinal[at.index]];
    std::uint32_t last = kNone;
    Picoseconds latest = r_.start[op];
    for (std::uint32_t i = p_.rendezvous_ops.first[r]; i < p_.rendezvous_ops.first[r + 1]; ++i) {
      const std::uint32_t member = p_.rendezvous_ops.items[i];
      if (member == op) continue;
      const Picoseconds there = came(member);
      if (there <= latest || there > time_) continue;
      latest = there;
      last = member;
    }
    return last;
  }

  // What was there last, not after `start`, of all that the operator needs to start.
  Reason reason_for(std::uint32_t op, const Place& at, Picoseconds start) const {
    std::optional<Reason> best;
    const auto offer = [&](Picoseconds when, std::uint32_t from, Cause cause,
                           Picoseconds latency = 0) {
      const Picoseconds then = when + latency;
      if (then <= start && (!best || then > best->lets_go)) best = Reason{when, then, from, cause};
    };
    const Slot& slot = p_.slots[at.slot];
    const OpTemplate& mine = block(at).ops[at.index];
    const std::uint32_t previous = before_in_stream(at, mine.stream);
    if (previous != kNone) offer(r_.end[previous], previous, Cause::stream, mine.stream_gap);
    const auto latency_after = [&](std::uint16_t stream) -> Picoseconds {
      return stream == mine.stream ? 0 : mine.event_latency;
    };
    for (std::uint32_t d = mine.first_dep; d < mine.first_dep + mine.deps; ++d) {
      const std::uint32_t from = slot.first_op + block(at).deps[d];
      offer(r_.end[from], from, Cause::dependency,
            latency_after(block(at).ops[block(at).deps[d]].stream));
    }
    const auto edges = p_.edges.begin();
    const auto end = edges + p_.edges_into_slot.first[at.slot + 1];
    auto edge = std::lower_bound(edges + p_.edges_into_slot.first[at.slot], end, at.index,
                                 [](const SlotEdge& e, std::uint32_t i) { return e.to_op < i; });
    for (; edge != end && edge->to_op == at.index; ++edge) {
      const std::uint32_t from = p_.slots[edge->from_slot].first_op + edge->from_op;
      offer(r_.end[from], from, Cause::slot_edge,
            latency_after(p_.blocks[p_.slots[edge->from_slot].block].ops[edge->from_op].stream));
    }
    const Device& device = p_.devices[p_.device_of_slot[at.slot]];
    if (device.hardware_connections == 1 && op > p_.slots[device.first_slot].first_op)
      offer(r_.start[op - 1], op - 1, Cause::connection);
    const std::uint32_t wait = behind(at).wait[at.index];
    SlotBase base = wait == kNone ? bases_[at.slot] : SlotBase{slot.first_op + wait, 0};
    base.issue += behind(at).issue[at.index];
    offer((base.wait == kNone ? 0 : r_.end[base.wait]) + base.issue, base.wait, Cause::host);
    assert(best);
    return *best;
  }

  std::uint32_t before_in_stream(const Place& at, std::uint16_t stream) const {
    const std::uint32_t here = behind(at).in_stream[at.index];
    if (here != kNone) return p_.slots[at.slot].first_op + here;
    const std::uint32_t first = p_.devices[p_.device_of_slot[at.slot]].first_slot;
    for (std::uint32_t s = at.slot; s-- > first;) {
      const BlockBefore& b = blocks_[p_.slots[s].block];
      if (stream < b.last_in_stream.size() && b.last_in_stream[stream] != kNone)
        return p_.slots[s].first_op + b.last_in_stream[stream];
    }
    return kNone;
  }

  // A segment [from, time_], unless empty; the walk has then got to `from`.
  void add(std::uint32_t op, const Place& at, Picoseconds from, Cause cause, bool idle) {
    const Picoseconds length = time_ - from;
    if (length <= 0) return;
    path_.segments.push_back({op, p_.device_of_slot[at.slot], from, time_, cause, idle});
    time_ = from;
    if (idle) {
      (cause == Cause::host ? path_.host : path_.waiting) += length;
      return;
    }
    const OpInfo& info = block(at).infos[at.index];
    path_.by_class[static_cast<std::size_t>(class_of(info.work.kind))] += length;
    path_.by_kind[static_cast<std::size_t>(info.work.kind)] += length;
    path_.by_provenance[static_cast<std::size_t>(info.provenance)] += length;
  }

  const Program& p_;
  const Replay& r_;
  std::vector<BlockBefore> blocks_;
  std::vector<SlotBase> bases_;  // by slot
  CriticalPath path_;
  Picoseconds time_ = 0;  // the path is known from here on
};

}  // namespace

std::string_view name_of(Cause c) {
  return kCauseNames.at(static_cast<std::size_t>(c));
}

CriticalPath critical_path(const Program& program, const Replay& replay) {
  return Walk(program, replay).run();
}

}  // namespace steploom
