#include "planner/memory_parts.h"

#include <algorithm>

#include "models/offloaded_experts.h"
#include "sim/expert_exchange.h"

namespace steploom {
namespace {

// What Transformer Engine 2 registers for Layout::tp_overlap (pytorch/module/base.py,
// initialize_ub), whatever the model: for each of ten products a buffer of all rows of a
// micro-batch, hidden wide; of fp8 where it gathers for such a product. And two workspaces of
// cuBLAS more, for three streams.
struct OverlapBuffers {
  Bytes registered = 0, workspace = 0;
};
OverlapBuffers overlap_buffers(const Setting& s, const Layout& l) {
  if (!l.tp_overlap) return {};
  constexpr int kGathered = 6,
                kReduced = 4;  // qkv, fc1: fprop, dgrad; proj, fc2: dgrad. The others
  constexpr Bytes kWorkspace = Bytes{32} << 20;  // get_cublas_workspace_size_bytes, Hopper
  const Precision p = s.work.precision;
  const Bytes elements = tokens_of_rank(s.work, l) * s.model.hidden;
  return {elements * (kGathered * std::min(operand_bytes(p), bytes_of(p)) + kReduced * bytes_of(p)),
          2 * kWorkspace};
}

// What DeepEP registers: for each pair of SMs a queue from every rank of the node and, both ways,
// for every node (csrc/config.hpp, get_nvl_buffer_size_hint and get_rdma_buffer_size_hint; lengths:
// deep_ep/buffer.py, get_dispatch_config).
Bytes exchange_buffers(const Setting& s, const Layout& l) {
  if (l.dispatcher != Dispatcher::deepep) return 0;
  constexpr Bytes kBesideRow = 8 + 128 * (8 + 4 + 4);  // source; 128 choices and scales at most
  constexpr Bytes kInNode = 256, kBetweenNodes = 288, kRdma = 128;
  const int node = s.cluster.devices_per_domain();
  const Bytes peers = std::min(l.ep, node), nodes = std::max(l.ep / node, 1);
  const int sms = l.ctas_of(CommGroup::ep);
  const Bytes pairs = (sms > 0 ? sms : kExchangeSms) / 2;
  const Bytes row = s.model.hidden * bytes_of(s.work.precision) + kBesideRow;
  if (nodes == 1) return pairs * peers * kInNode * row;
  return pairs * (peers * kBetweenNodes + 2 * nodes * kRdma) * row;
}

}  // namespace

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
  const Keeping keeping{w.precision, setting.runtime.master_weights};
  const Bytes kept = master_bytes(keeping) + moment_bytes(w.optimizer, keeping);
  // fp8 products read 8-bit copies of their weights, one transposed.
  const Bytes copies = operand_bytes(w.precision) < e ? 2 * operand_bytes(w.precision) : 0;
  // Bytes a parameter, of which a rank has its share from the given ZeRO stage on.
  const auto held = [&](std::int64_t count, int shards, Bytes each, int from) {
    return count * each / (l.zero >= from ? shards : 1);
  };
  // Under a pipeline gradients add up whole, and with reshard=0 gathered parameters lie beside
  // their shards through the step (models/sharded_parameters.cpp).
  const bool piped = l.zero == 3 && l.pp > 1;
  const int gradients_from = piped ? 4 : 2;
  const auto gathered = [&](std::int64_t count, int shards) {
    return piped && !l.reshard && shards > 1 ? count * e : 0;
  };
  // Experts that are in the host's memory are on the device while they are used: activations.
  const bool offloaded = l.offload == Offload::experts;
  const bool left = gradients_leave(l, w.global_batch);
  const auto all = [&](Bytes each, int from, bool away) {
    return held(p.dense(), l.dp_shards(), each, from) +
           (away ? 0 : held(p.experts, l.expert_shards(), each, from));
  };
  const auto state = [&](std::int64_t count, int shards) {
    return held(count, shards, e + copies, 3) + gathered(count, shards) +
           held(count, shards, g, gradients_from) + held(count, shards, kept, 1);
  };
  MemoryParts parts;
  parts.parameters = all(e + copies, 3, offloaded) + gathered(p.dense(), l.dp_shards()) +
                     gathered(p.experts, l.expert_shards());
  parts.gradients = all(g, gradients_from, left);
  parts.optimizer = all(kept, 1, offloaded);
  const OverlapBuffers overlap = overlap_buffers(setting, l);
  parts.buffers = communicator_memory(setting, communicators) + overlap.registered +
                  exchange_buffers(setting, l);
  parts.workspace = setting.runtime.workspace + overlap.workspace;
  parts.sharded = state(p.sharded, l.dp_shards());
  parts.replicated = state(p.replicated, l.dp_shards());
  parts.experts = state(p.experts, l.expert_shards());
  if (offloaded) {
    const Bytes here = left ? 0 : held(p.experts, l.expert_shards(), g, 2);
    parts.host = parts.experts - here;
    parts.experts = here;
  }
  return parts;
}

Bytes saved_bytes(const Chunk& chunk, bool routed) {
  std::vector<int> state(chunk.tensors.size(), 0);  // 1: written forward, 2: read backward too
  for (OpId op = 0; op < chunk.forward.size(); ++op)
    for (const TensorId t : chunk.forward.node(op).writes) state[owner_of(chunk.tensors, t)] = 1;
  Bytes total = 0;
  for (OpId op = 0; op < chunk.backward.size(); ++op)
    for (const TensorId read : chunk.backward.node(op).reads) {
      const TensorId t = owner_of(chunk.tensors, read);
      if (state[t] != 1 || chunk.tensors[t].scope != TensorScope::micro_batch) continue;
      if (!routed && chunk.tensors[t].routed >= 0) continue;
      state[t] = 2;
      total += chunk.tensors[t].bytes;
    }
  return total;
}

}  // namespace steploom
