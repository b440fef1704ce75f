#include "sim/relax.h"

#include <algorithm>
#include <memory>

#include "sim/deadlock.h"
#include "sim/engine_plain.h"
#include "sim/flat_program.h"
#include "sim/rendezvous.h"

namespace steploom {
namespace {

// Sweeps every device in issue order. A device that needs an end which is not known yet (a
// rendezvous that others have not reached) is left and taken up again when a rendezvous completes.
// Looking no further than that operator, the sweep may stop where the device could have gone on
// with another stream; run() then says so, and the plain engine is asked.
class Sweep {
 public:
  Sweep(const FlatProgram& flat, Picoseconds* end, LinkLoad* links = nullptr)
      : flat_(flat),
        end_(end),
        places_(flat.program.devices.size()),
        stream_end_(flat.first_stream.back(), kNothingBefore),
        pending_(flat.first_stream.back(), kNoOp),
        awake_(flat.program.devices.size()),
        links_(links),
        meetings_(flat, awake_, links) {}

  static std::size_t bytes(const FlatProgram& flat) {
    return flat.program.op_count * sizeof(Picoseconds) +
           flat.program.devices.size() * sizeof(Place) +
           flat.first_stream.back() * (sizeof(Picoseconds) + sizeof(std::uint32_t)) +
           flat.program.communicator_of_rendezvous.size() * Meetings::bytes_each();
  }

  // The makespan, kUnknown if the sweep could not finish.
  Picoseconds run() {
    for (std::uint32_t d = 0; d < places_.size(); ++d) {
      places_[d].slot = flat_.program.devices[d].first_slot;
      places_[d].edge = kNoOp;
      awake_.push(d);
    }
    while (!awake_.empty()) sweep(awake_.pop());
    Picoseconds makespan = 0;
    for (std::uint32_t d = 0; d < places_.size(); ++d) {
      const Device& device = flat_.program.devices[d];
      if (places_[d].slot != device.first_slot + device.slot_count) return kUnknown;
      learn(d);
      for (std::uint32_t s = flat_.first_stream[d]; s < flat_.first_stream[d + 1]; ++s)
        makespan = std::max(makespan, stream_end_[s]);
    }
    return makespan;
  }

 private:
  struct Place {
    std::uint32_t slot = 0;
    std::uint32_t op = 0;             // template index
    std::uint32_t edge = kNoOp;       // next slot edge into this slot; kNoOp: slot not begun
    std::uint32_t host_wait = kNoOp;  // the operator that makes `base` unknown
    Picoseconds base = 0;             // host time at the beginning of the segment
    Picoseconds last_start = 0;
  };

  // Reads the ends that have become known since the device was left.
  void learn(std::uint32_t device) {
    for (std::uint32_t s = flat_.first_stream[device]; s < flat_.first_stream[device + 1]; ++s)
      if (stream_end_[s] == kUnknown) stream_end_[s] = end_[pending_[s]];
    Place& at = places_[device];
    if (at.base == kUnknown) at.base = end_[at.host_wait];
  }

  void sweep(std::uint32_t d) {
    learn(d);
    const Device& device = flat_.program.devices[d];
    const std::uint32_t end_slot = device.first_slot + device.slot_count;
    for (Place& at = places_[d]; at.slot < end_slot; ++at.slot) {
      if (at.edge == kNoOp) at.edge = flat_.program.edges_into_slot.first[at.slot];
      const bool swept = device.hardware_connections == 1 ? slot<true>(d, at) : slot<false>(d, at);
      if (!swept) return;
      at.base += flat_.blocks[flat_.program.slots[at.slot].block].tail;
      at.base = std::min(at.base, kUnknown);
      at.edge = kNoOp;
      at.op = 0;
    }
  }

  // Sweeps a slot from at.op on; false if an end is missing, at.op then being the first without.
  template <bool one_connection>
  bool slot(std::uint32_t d, Place& at) {
    const Program& p = flat_.program;
    const FlatOp* ops = flat_.block_ops(at.slot);
    const std::uint32_t count =
        static_cast<std::uint32_t>(p.blocks[p.slots[at.slot].block].ops.size());
    const std::uint32_t first_op = p.slots[at.slot].first_op;
    const std::uint32_t last_edge = p.edges_into_slot.first[at.slot + 1];
    const std::uint32_t* deps = flat_.deps.data();
    Picoseconds* const ends = end_ + first_op;
    Picoseconds* const streams = &stream_end_[flat_.first_stream[d]];
    std::uint32_t edge_op = at.edge < last_edge ? p.edges[at.edge].to_op : kNoOp;
    Picoseconds base = at.base;
    for (std::uint32_t i = at.op; i < count; ++i) {
      const FlatOp& op = ops[i];
      Picoseconds start = std::max(base + op.issue, streams[op.stream] + op.stream_gap);
      for (std::uint32_t k = op.first_dep; k < op.first_dep + op.deps; ++k)
        start = std::max(start, ends[deps[k]] + op.event_latency);
      if constexpr (one_connection) start = std::max(start, at.last_start);
      std::uint32_t edge = at.edge;
      if (i == edge_op)
        for (; edge < last_edge && p.edges[edge].to_op == i; ++edge)
          start = std::max(start, end_[flat_.edge_source[edge]] + flat_.edge_latency[edge]);
      if (start >= kUnknown) {
        at.op = i;
        at.base = base;
        return false;
      }
      if (i == edge_op) {
        at.edge = edge;
        edge_op = edge < last_edge ? p.edges[edge].to_op : kNoOp;
      }
      if constexpr (one_connection) at.last_start = start;
      Picoseconds end = start + flat_.duration(at.slot, op);
      if (op.role != kNoRole) {
        if (flat_.meets_others(p.devices[d], op)) {
          end = meetings_.join(at.slot, op, first_op + i, start, end_);
          pending_[flat_.first_stream[d] + op.stream] = first_op + i;
        } else if (links_ != nullptr) {
          const std::uint32_t communicator = p.devices[d].communicator_of_role[op.role];
          links_->add(communicator, op.link_share, end - start, start);
          end = start + links_->alone(communicator, op.link_share, end - start);
        }
      }
      ends[i] = streams[op.stream] = end;
      if (op.host_waits) {
        at.host_wait = first_op + i;
        base = end;
      }
    }
    at.base = base;
    return true;
  }

  const FlatProgram& flat_;
  Picoseconds* end_;
  std::vector<Place> places_;
  std::vector<Picoseconds> stream_end_;  // of the last operator swept, by stream
  std::vector<std::uint32_t> pending_;   // that operator, where its end was unknown
  DeviceQueue awake_;
  LinkLoad* links_;
  Meetings meetings_;
};

Picoseconds by_plain_engine(const FlatProgram& flat, std::vector<Picoseconds>& end) {
  std::vector<Picoseconds> start;
  if (!replay_plain(flat, start, end)) throw_deadlock(flat, start, end);
  return end.empty() ? 0 : *std::max_element(end.begin(), end.end());
}

}  // namespace

Relaxation relax(const Program& program) {
  const FlatProgram flat(program);
  Relaxation result;
  result.end.resize(program.op_count);
  result.makespan = Sweep(flat, result.end.data()).run();
  if (result.makespan == kUnknown) result.makespan = by_plain_engine(flat, result.end);
  return result;
}

std::size_t relax_bytes_per_op(const Program& program) {
  if (program.op_count == 0) return 0;
  return (Sweep::bytes(FlatProgram(program)) + program.op_count - 1) / program.op_count;
}

Picoseconds relaxed_makespan(const Program& program, bool links_shared) {
  const FlatProgram flat(program);
  const auto end = std::make_unique_for_overwrite<Picoseconds[]>(program.op_count);
  LinkLoad links(program);
  const Picoseconds makespan = Sweep(flat, end.get(), links_shared ? &links : nullptr).run();
  if (makespan != kUnknown) return std::max(makespan, links.end());
  std::vector<Picoseconds> exact;
  return by_plain_engine(flat, exact);
}

}  // namespace steploom
