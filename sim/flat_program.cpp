#include "sim/flat_program.h"

#include <algorithm>
#include <cassert>

namespace steploom {
namespace {

void add_block(FlatProgram& flat, const BlockTemplate& block) {
  FlatBlock out;
  out.first_op = static_cast<std::uint32_t>(flat.ops.size());
  out.first_wait = static_cast<std::uint32_t>(flat.waits.size());
  out.first_list = static_cast<std::uint32_t>(flat.list_first.size());
  Picoseconds host = 0;
  std::uint32_t comm_ops = 0;
  for (std::size_t i = 0; i < block.ops.size(); ++i) {
    const OpTemplate& from = block.ops[i];
    FlatOp op;
    op.duration = from.duration;
    op.issue = host += from.launch;
    op.stream_gap = from.stream_gap;
    op.event_latency = from.event_latency;
    op.first_dep = static_cast<std::uint32_t>(flat.deps.size());
    op.stream = from.stream;
    op.role = from.role;
    op.varies = from.varies;
    op.link_share = from.link_share;
    op.segment = static_cast<std::uint16_t>(out.waits);
    op.comm_ordinal = comm_ops;
    op.host_waits = from.host_waits;
    op.eager = from.eager;
    op.sender = from.sender;
    for (std::uint32_t d = from.first_dep; d < from.first_dep + from.deps; ++d)
      if (block.ops[block.deps[d]].stream != from.stream) flat.deps.push_back(block.deps[d]);
    op.deps = static_cast<std::uint16_t>(flat.deps.size() - op.first_dep);
    if (op.role != kNoRole) ++comm_ops;
    if (op.host_waits) {
      flat.waits.push_back(static_cast<std::uint32_t>(i));
      ++out.waits;
      host = 0;
    }
    out.lists = std::max(out.lists, std::uint32_t{op.stream} + 1);
    flat.ops.push_back(op);
  }
  assert(out.waits <= 0xffff);
  out.tail = host;
  for (std::uint32_t stream = 0; stream < out.lists; ++stream) {
    flat.list_first.push_back(static_cast<std::uint32_t>(flat.list_items.size()));
    for (std::size_t i = 0; i < block.ops.size(); ++i)
      if (block.ops[i].stream == stream) flat.list_items.push_back(static_cast<std::uint32_t>(i));
  }
  flat.list_first.push_back(static_cast<std::uint32_t>(flat.list_items.size()));
  flat.blocks.push_back(out);
}

}  // namespace

FlatProgram::FlatProgram(const Program& p) : program(p) {
  assert(p.device_of_slot.size() == p.slots.size() && "finalize() comes first");
  for (const BlockTemplate& block : p.blocks) add_block(*this, block);
  ops.emplace_back();  // so that a pointer to an empty block's operators can be taken
  first_stream.push_back(0);
  for (const Device& device : p.devices)
    first_stream.push_back(first_stream.back() + device.streams);
  first_segment.push_back(0);
  for (const Slot& slot : p.slots)
    first_segment.push_back(first_segment.back() + blocks[slot.block].waits + 1);
  for (const SlotEdge& edge : p.edges) {
    edge_source.push_back(p.slots[edge.from_slot].first_op + edge.from_op);
    const FlatOp& to = block_ops(edge.to_slot)[edge.to_op];
    const bool crosses = block_ops(edge.from_slot)[edge.from_op].stream != to.stream;
    edge_latency.push_back(crosses ? to.event_latency : 0);
  }
}

}  // namespace steploom
