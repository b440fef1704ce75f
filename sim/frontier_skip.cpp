// What Frontier says and does for skipping whole periods; see steady_state.h.
#include <cassert>

#include "sim/frontier.h"

namespace steploom {

void Frontier::append_stream(std::uint32_t stream, Picoseconds now, Picoseconds window,
                             std::vector<std::int64_t>& state) const {
  const StreamHead& h = heads_[stream];
  state.push_back(h.id == kNoOp ? -1 : std::int64_t{h.position});
  if (h.id == kNoOp) return;
  state.push_back(std::max(h.free_at - now, -window));
  // Backwards through what the stream has run: other streams' heads may wait out its latency.
  const std::uint32_t device = flat_.program.device_of_slot[h.slot];
  const std::uint32_t local = stream - flat_.first_stream[device];
  const std::uint32_t first_slot = flat_.program.devices[device].first_slot;
  std::uint32_t slot = h.slot, position = h.position;
  for (;;) {
    while (position == 0 && slot > first_slot)
      position = static_cast<std::uint32_t>(flat_.stream_ops(--slot, local).size());
    if (position == 0) break;
    const std::uint32_t index = flat_.stream_ops(slot, local)[--position];
    const Picoseconds ended = end_[flat_.program.slots[slot].first_op + index] - now;
    if (ended <= -window) break;
    state.push_back(ended);
  }
  state.push_back(1);  // no end lies after now
}

std::uint32_t Frontier::earliest_slot(std::uint32_t device) const {
  std::uint32_t slot = kNoOp;
  for (std::uint32_t s = flat_.first_stream[device]; s < flat_.first_stream[device + 1]; ++s)
    if (!done(s)) slot = std::min(slot, heads_[s].slot);
  return slot;
}

void Frontier::append_host(std::uint32_t device, Picoseconds now,
                           std::vector<std::int64_t>& state) const {
  const Host& host = hosts_[device];
  if (host.waits_for == kNoOp) {
    state.push_back(-1);
    return;
  }
  state.push_back(host.segment);
  const std::uint32_t slot = std::min(earliest_slot(device), host.slot);
  for (std::uint32_t at = flat_.first_segment[slot];
       at <= flat_.first_segment[host.slot] + host.segment; ++at)
    state.push_back(segment_base_[at] - now);
}

bool Frontier::host_repeats(std::uint32_t device, std::uint32_t slot, Picoseconds then,
                            std::uint32_t period, Picoseconds time) const {
  const Device& of = flat_.program.devices[device];
  if (slot + period + 1 >= of.first_slot + of.slot_count) return false;
  const auto base = [this](std::uint32_t s) { return segment_base_[flat_.first_segment[s]]; };
  const Picoseconds needs = base(slot + period) - base(slot);
  return needs == time || (needs < time && base(slot + period + 1) <= then);
}

bool Frontier::waits_beyond(std::uint32_t device, std::uint32_t stream, std::uint32_t last) const {
  const StreamHead& h = heads_[stream];
  const Host& host = hosts_[device];
  const Program& p = flat_.program;
  if (h.slot < last) return false;
  if (segment_base_[flat_.first_segment[h.slot] + h.op->segment] == kUnknown) return true;
  if (host.one_connection && host.next_to_start < p.slots[last].first_op) return true;
  for (std::uint32_t d = h.op->first_dep; d < h.op->first_dep + h.op->deps; ++d)
    if (end_[p.slots[h.slot].first_op + flat_.deps[d]] == kUnknown) return true;
  const std::uint32_t op = h.id - p.slots[h.slot].first_op;
  for (std::uint32_t e = p.edges_into_slot.first[h.slot]; e < p.edges_into_slot.first[h.slot + 1];
       ++e)
    if (p.edges[e].to_op == op && p.edges[e].from_slot >= last &&
        end_[flat_.edge_source[e]] == kUnknown)
      return true;
  return false;
}

void Frontier::skip_stream(std::uint32_t stream, const Skip& by) {
  StreamHead& h = heads_[stream];
  h.slot += by.slots;
  h.id += by.ops;
  h.free_at += by.time;
  h.blocked_on = kNoOp;
}

void Frontier::skip_host(std::uint32_t device, const Skip& by) {
  Host& host = hosts_[device];
  if (host.one_connection) {
    host.next_to_start += by.ops;
    host.last_start += by.time;
  }
  if (host.waits_for == kNoOp) return;
  const std::uint32_t first = flat_.first_segment[std::min(earliest_slot(device), host.slot)];
  for (std::uint32_t at = flat_.first_segment[host.slot] + host.segment + 1; at-- > first;)
    segment_base_[at + by.segments] = segment_base_[at] + by.time;
  host.slot += by.slots;
  host.waits_for += by.ops;
}

}  // namespace steploom
