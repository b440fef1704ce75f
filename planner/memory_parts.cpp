#include "planner/memory_parts.h"

namespace steploom {

Bytes communicator_memory(const Setting& setting, std::span<const CommunicatorUse> uses) {
  const CommunicatorMemory* measured = setting.costs.communicator_memory();
  Bytes sum = 0;
  CommunicatorUse any;  // of what was measured
  bool inside = false;
  for (const CommunicatorUse& use : uses) {
    if (measured == nullptr || use.shape.nodes > 1) {
      sum += setting.runtime.communicator_buffers;
      continue;
    }
    inside = true;
    any.rings |= use.rings;
    any.messages |= use.messages;
    sum += use.ctas > 0 ? measured->made.of(use.ctas) : measured->idle;
    if (use.rings) sum += measured->rings.of(use.ctas);
    if (use.messages) sum += measured->messages.of(use.ctas) * (use.shape.ranks - 1);
  }
  if (inside) sum += measured->made.once;
  if (any.rings) sum += measured->rings.once;
  if (any.messages) sum += measured->messages.once;
  return sum;
}

MemoryParts fixed_memory(const Setting& setting, const Layout& l, const StageParameters& p,
                         std::span<const CommunicatorUse> communicators) {
  const Bytes e = bytes_of(setting.work.precision);
  const Bytes g = setting.runtime.grad_bytes;
  const Workload& w = setting.work;
  const Bytes kept = master_bytes(w.precision) + moment_bytes(w.optimizer);
  // fp8 products read 8-bit copies of their weights, one transposed.
  const Bytes copies = operand_bytes(w.precision) < e ? 2 * operand_bytes(w.precision) : 0;
  const int dp = l.zero == 1 ? l.dp_cp() : 1;
  const int expert_dp = l.zero == 1 ? l.expert_dp() : 1;
  const auto state = [&](std::int64_t count, int shards) {
    return count * (e + copies + g) + count * kept / shards;
  };
  MemoryParts parts;
  parts.parameters = p.total() * (e + copies);
  parts.gradients = p.total() * g;
  parts.optimizer = p.dense() * kept / dp + p.experts * kept / expert_dp;
  parts.buffers = communicator_memory(setting, communicators);
  parts.workspace = setting.runtime.workspace;
  parts.sharded = state(p.sharded, dp);
  parts.replicated = state(p.replicated, dp);
  parts.experts = state(p.experts, expert_dp);
  return parts;
}

}  // namespace steploom
