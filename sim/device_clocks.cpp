#include "sim/device_clocks.h"

#include <algorithm>

namespace steploom {

DeviceClocks::DeviceClocks(const FlatProgram& flat, std::uint32_t device)
    : device_(flat.program.devices[device]), streams_(device_.streams) {
  const Program& p = flat.program;
  first_op_ = p.slots[device_.first_slot].first_op;
  std::vector<std::uint32_t> last(streams_, 0);  // by stream: the latest operator, 0: none
  std::vector<std::uint32_t> host(streams_, 0);
  for (std::uint32_t s = device_.first_slot; s < device_.first_slot + device_.slot_count; ++s) {
    const FlatOp* ops = flat.block_ops(s);
    const std::uint32_t first = p.slots[s].first_op - first_op_;
    std::uint32_t edge = p.edges_into_slot.first[s];
    for (std::uint32_t i = 0; i < p.blocks[p.slots[s].block].ops.size(); ++i) {
      const FlatOp& op = ops[i];
      now_ = host;
      if (device_.hardware_connections == 1 && count_ > 0) merge(count_);
      if (last[op.stream] != 0) ended(last[op.stream]);
      for (std::uint32_t d = op.first_dep; d < op.first_dep + op.deps; ++d)
        ended(first + flat.deps[d] + 1);
      for (; edge < p.edges_into_slot.first[s + 1] && p.edges[edge].to_op == i; ++edge)
        ended(flat.edge_source[edge] - first_op_ + 1);
      clocks_.insert(clocks_.end(), now_.begin(), now_.end());
      stream_of_.push_back(op.stream);
      last[op.stream] = ++count_;
      if (!op.host_waits) continue;
      ended(count_);
      host = now_;
    }
  }
}

void DeviceClocks::merge(std::uint32_t number) {
  for (std::uint32_t s = 0; s < streams_; ++s) now_[s] = std::max(now_[s], clock(number)[s]);
}

void DeviceClocks::ended(std::uint32_t number) {
  merge(number);
  std::uint32_t& known = now_[stream_of_[number - 1]];
  known = std::max(known, number);
}

}  // namespace steploom
