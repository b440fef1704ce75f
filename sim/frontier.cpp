#include "sim/frontier.h"

namespace steploom {

Frontier::Frontier(const FlatProgram& flat, const Picoseconds* end)
    : flat_(flat),
      end_(end),
      heads_(flat.first_stream.back()),
      hosts_(flat.program.devices.size()),
      segment_base_(flat.first_segment.back(), kUnknown) {
  for (std::uint32_t d = 0; d < hosts_.size(); ++d) {
    const Device& device = flat.program.devices[d];
    if (device.slot_count == 0) continue;
    Host& host = hosts_[d];
    host.slot = device.first_slot;
    host.one_connection = device.hardware_connections == 1;
    host.next_to_start = flat.program.slots[device.first_slot].first_op;
    find_next_stream(d, device.first_slot, 0);
    segment_base_[flat.first_segment[device.first_slot]] = 0;
    issue(d);
    for (std::uint32_t s = flat.first_stream[d]; s < flat.first_stream[d + 1]; ++s) {
      heads_[s].slot = device.first_slot;
      settle(d, s);
    }
  }
}

void Frontier::settle(std::uint32_t device, std::uint32_t stream) {
  StreamHead& h = heads_[stream];
  const Device& of = flat_.program.devices[device];
  const std::uint32_t end_slot = of.first_slot + of.slot_count;
  const std::uint32_t local = stream - flat_.first_stream[device];
  while (h.slot < end_slot) {
    const auto list = flat_.stream_ops(h.slot, local);
    if (h.position < list.size()) {
      const std::uint32_t index = list[h.position];
      h.op = flat_.block_ops(h.slot) + index;
      h.id = flat_.program.slots[h.slot].first_op + index;
      return;
    }
    ++h.slot;
    h.position = 0;
  }
  h.id = kNoOp;
}

void Frontier::find_next_stream(std::uint32_t device, std::uint32_t slot, std::uint32_t index) {
  const Program& p = flat_.program;
  const std::uint32_t end_slot = p.devices[device].first_slot + p.devices[device].slot_count;
  for (; slot < end_slot; ++slot, index = 0) {
    if (index >= p.blocks[p.slots[slot].block].ops.size()) continue;
    hosts_[device].next_stream = flat_.first_stream[device] + flat_.block_ops(slot)[index].stream;
    return;
  }
}

void Frontier::issue(std::uint32_t device) {
  Host& host = hosts_[device];
  const Device& of = flat_.program.devices[device];
  const std::uint32_t end_slot = of.first_slot + of.slot_count;
  for (;;) {
    const FlatBlock& block = flat_.blocks[flat_.program.slots[host.slot].block];
    const std::uint32_t at = flat_.first_segment[host.slot] + host.segment;
    Picoseconds next = segment_base_[at];
    if (host.segment < block.waits) {
      const std::uint32_t index = flat_.waits[block.first_wait + host.segment];
      const std::uint32_t id = flat_.program.slots[host.slot].first_op + index;
      if (end_[id] == kUnknown) {
        host.waits_for = id;
        return;
      }
      next = end_[id];
      ++host.segment;
    } else {
      next += block.tail;
      host.segment = 0;
      if (++host.slot == end_slot) break;
    }
    segment_base_[at + 1] = next;
  }
  host.waits_for = kNoOp;
}

Picoseconds Frontier::after_edges(StreamHead& h, std::uint32_t op, Picoseconds at) {
  const Program& p = flat_.program;
  const auto first = p.edges.begin() + p.edges_into_slot.first[h.slot];
  const auto last = p.edges.begin() + p.edges_into_slot.first[h.slot + 1];
  auto edge = std::lower_bound(
      first, last, op, [](const SlotEdge& e, std::uint32_t index) { return e.to_op < index; });
  for (; edge != last && edge->to_op == op; ++edge) {
    const auto e = static_cast<std::size_t>(edge - p.edges.begin());
    const std::uint32_t from = flat_.edge_source[e];
    if (end_[from] == kUnknown) return wait_for(h, from);
    at = std::max(at, end_[from] + flat_.edge_latency[e]);
  }
  return at;
}

std::size_t Frontier::bytes(const FlatProgram& flat) {
  return flat.first_stream.back() * sizeof(StreamHead) +
         flat.program.devices.size() * sizeof(Host) +
         flat.first_segment.back() * sizeof(Picoseconds);
}

}  // namespace steploom
