#include "planner/memory_parts.h"

namespace steploom {

MemoryParts fixed_memory(const Setting& setting, const Layout& l, const StageParameters& p,
                         int communicators) {
  constexpr Bytes kAdamState = 12;
  const Bytes e = bytes_of(setting.work.precision);
  const Bytes g = setting.runtime.grad_bytes;
  const int dp = l.zero == 1 ? l.dp : 1;
  const int expert_dp = l.zero == 1 ? l.expert_dp() : 1;
  const auto state = [&](std::int64_t count, int shards) {
    return count * (e + g) + count * kAdamState / shards;
  };
  MemoryParts parts;
  parts.parameters = p.total() * e;
  parts.gradients = p.total() * g;
  parts.optimizer = p.dense() * kAdamState / dp + p.experts * kAdamState / expert_dp;
  parts.buffers = setting.runtime.communicator_buffers * communicators;
  parts.workspace = setting.runtime.workspace;
  parts.sharded = state(p.sharded, dp);
  parts.replicated = state(p.replicated, dp);
  parts.experts = state(p.experts, expert_dp);
  return parts;
}

}  // namespace steploom
