// The heads of the streams, and when they may start as far as order goes.
//
// A stream runs its operators in issue order, so at any moment only its *head* can start.
// earliest() says when: at the latest of the end of the operator before it in the stream and its
// gap, the ends of its dependencies and slot-edge sources and the latency of an event, the moment
// the host has issued it and, with one hardware connection, the start of the operator issued before
// it. SMs are the engine's affair.
//
// Ends are read from the array that the engine fills; while one is missing, the head remembers
// which (`blocked_on`) and asking again costs one look.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "sim/flat_program.h"
#include "sim/steady_state.h"

namespace steploom {

struct StreamHead {
  std::uint32_t slot = 0;
  std::uint32_t position = 0;        // in the stream's list of this slot
  std::uint32_t id = kNoOp;          // kNoOp: the stream has run all its operators
  std::uint32_t blocked_on = kNoOp;  // an operator whose end it waits for
  const FlatOp* op = nullptr;
  Picoseconds free_at = kNothingBefore;  // end of the operator before it
};

class Frontier {
 public:
  // `end`, by operator id, holds kUnknown until an operator has ended.
  Frontier(const FlatProgram& flat, const Picoseconds* end);

  // Streams are numbered device after device, as FlatProgram::first_stream says.
  const StreamHead& head(std::uint32_t stream) const { return heads_[stream]; }
  bool done(std::uint32_t stream) const { return heads_[stream].id == kNoOp; }

  // When the head may start; kUnknown if something that it waits for has no end (or start) yet.
  Picoseconds earliest(std::uint32_t device, std::uint32_t stream) {
    StreamHead& h = heads_[stream];
    const Host& host = hosts_[device];
    if (host.one_connection && host.next_to_start != h.id) return kUnknown;
    if (h.blocked_on != kNoOp) {
      if (end_[h.blocked_on] == kUnknown) return kUnknown;
      h.blocked_on = kNoOp;
    }
    const Picoseconds base = segment_base_[flat_.first_segment[h.slot] + h.op->segment];
    if (base == kUnknown) return wait_for(h, host.waits_for);
    Picoseconds at = std::max(base + h.op->issue, h.free_at + h.op->stream_gap);
    if (host.one_connection) at = std::max(at, host.last_start);
    const std::uint32_t slot_op = flat_.program.slots[h.slot].first_op;
    for (std::uint32_t d = h.op->first_dep; d < h.op->first_dep + h.op->deps; ++d) {
      const std::uint32_t from = slot_op + flat_.deps[d];
      if (end_[from] == kUnknown) return wait_for(h, from);
      at = std::max(at, end_[from] + h.op->event_latency);
    }
    const std::vector<std::uint32_t>& edges = flat_.program.edges_into_slot.first;
    if (edges[h.slot] != edges[h.slot + 1]) return after_edges(h, h.id - slot_op, at);
    return at;
  }

  // The head has started: with one hardware connection the next in issue order may follow.
  void started(std::uint32_t device, std::uint32_t stream, Picoseconds at) {
    Host& host = hosts_[device];
    if (!host.one_connection) return;
    const StreamHead& h = heads_[stream];
    host.last_start = at;
    host.next_to_start = h.id + 1;
    find_next_stream(device, h.slot, h.id + 1 - flat_.program.slots[h.slot].first_op);
  }

  // The streams of a device whose heads may be free to start: from the first up to the second.
  std::pair<std::uint32_t, std::uint32_t> may_start(std::uint32_t device) const {
    const Host& host = hosts_[device];
    if (host.one_connection) return {host.next_stream, host.next_stream + 1};
    return {flat_.first_stream[device], flat_.first_stream[device + 1]};
  }

  // The head's end is in `end`: the host goes on if it waited for it, and the next becomes head.
  void finished(std::uint32_t device, std::uint32_t stream) {
    StreamHead& h = heads_[stream];
    if (hosts_[device].waits_for == h.id) issue(device);
    h.free_at = end_[h.id];
    ++h.position;
    settle(device, stream);
  }

  // The operator that the device's host waits for, or kNoOp.
  std::uint32_t host_waits_for(std::uint32_t device) const { return hosts_[device].waits_for; }

  // For skipping periods (steady_state.h). What a stream's future depends on beside its slot, in
  // times relative to `now`: its place and the ends of the last `window` picoseconds.
  void append_stream(std::uint32_t stream, Picoseconds now, Picoseconds window,
                     std::vector<std::int64_t>& state) const;
  // Likewise the host, where it waits for the device and so goes along with it.
  void append_host(std::uint32_t device, Picoseconds now, std::vector<std::int64_t>& state) const;
  // The slot that the host issues; kNoOp if it waits for nothing and has issued all.
  std::uint32_t issuing_slot(std::uint32_t device) const {
    return hosts_[device].waits_for == kNoOp ? kNoOp : hosts_[device].slot;
  }
  // Does a host that has issued all leave each period of the device as the one before? `slot` is
  // the latest that the device was in at `then`, `period` and `time` are those of a period. It does
  // if it was a period ahead and needs no longer for one, or needs exactly as long.
  bool host_repeats(std::uint32_t device, std::uint32_t slot, Picoseconds then,
                    std::uint32_t period, Picoseconds time) const;
  // A head at or after slot `last` that cannot start before the device has come there.
  bool waits_beyond(std::uint32_t device, std::uint32_t stream, std::uint32_t last) const;
  void skip_stream(std::uint32_t stream, const Skip& by);
  void skip_host(std::uint32_t device, const Skip& by);

  static std::size_t bytes(const FlatProgram& flat);

 private:
  struct Host {
    std::uint32_t slot = 0;               // where issuing has got to
    std::uint32_t segment = 0;            // in this slot
    std::uint32_t waits_for = kNoOp;      // operator id
    std::uint32_t next_to_start = kNoOp;  // one hardware connection: operator id
    std::uint32_t next_stream = 0;        // and its stream; the last one's when none is left
    Picoseconds last_start = 0;
    bool one_connection = false;
  };

  static Picoseconds wait_for(StreamHead& h, std::uint32_t op) {
    h.blocked_on = op;
    return kUnknown;
  }
  Picoseconds after_edges(StreamHead& h, std::uint32_t op, Picoseconds at);
  // The stream of a slot's operator `index`, or of the first of the slots after it.
  void find_next_stream(std::uint32_t device, std::uint32_t slot, std::uint32_t index);
  std::uint32_t earliest_slot(std::uint32_t device) const;
  void settle(std::uint32_t device, std::uint32_t stream);  // finds the stream's next operator
  void issue(std::uint32_t device);  // issues up to the next host wait that has not ended

  const FlatProgram& flat_;
  const Picoseconds* end_;
  std::vector<StreamHead> heads_;
  std::vector<Host> hosts_;
  std::vector<Picoseconds> segment_base_;
};

}  // namespace steploom
