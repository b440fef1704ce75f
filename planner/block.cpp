#include "planner/block.h"

#include <algorithm>
#include <utility>

#include "sim/kernel_class.h"

namespace steploom {
namespace {

// Point-to-point messages up to NCCL's buffer (NCCL_BUFFSIZE, 4 MiB by default) leave the sender
// at once.
constexpr Bytes kNcclBuffer = Bytes{4} << 20;

void raise_to(StreamClock& clock, const StreamClock& other) {
  for (std::size_t s = 0; s < clock.size(); ++s) clock[s] = std::max(clock[s], other[s]);
}

OpTemplate op_template(const OpNode& node, const Runtime& runtime, const Cost& cost) {
  OpTemplate op;
  const bool communicates = is_communication(node.work.kind);
  op.duration = cost.time;
  op.launch = static_cast<Picoseconds>(static_cast<double>(communicates && !node.direct
                                                               ? runtime.launch_collective
                                                               : runtime.launch) *
                                           node.launches +
                                       0.5);
  op.stream_gap = cost.stream_gap;
  op.event_latency = cost.event_latency;
  op.microjoules = cost.microjoules;
  op.mhz = cost.mhz;
  op.stream = static_cast<std::uint16_t>(node.stream);
  op.role = communicates ? static_cast<std::uint16_t>(node.group) : kNoRole;
  op.kernel_class = static_cast<std::uint16_t>(kernel_class_of(node.work));
  op.sms_wanted = cost.sms;
  const bool engine = class_of(node.work.kind) == OpClass::copy;
  op.sms_least = communicates ? cost.sms : engine ? std::uint16_t{0} : std::uint16_t{1};
  op.link_share = cost.link_share;
  // Streams of equal priority: what starts later gets SMs when what runs ends, not at its next
  // wave. Measured on H200s for cuBLAS's products and for memory-bound kernels
  // (docs/interference.md).
  op.persistent = true;
  op.host_waits = node.host_waits;
  op.sender = node.group == CommGroup::pp_forward_out || node.group == CommGroup::pp_backward_out;
  op.eager = node.work.kind == OpKind::send_recv && !has_rings(node.group) &&
             node.work.bytes <= kNcclBuffer;
  return op;
}

class BlockLowering {
 public:
  BlockLowering(Block& block, const Runtime& runtime) : b_(block), runtime_(runtime) {
    b_.last.fill(-1);
  }

  void add(const OpNode& node, std::vector<std::uint32_t> deps, const Cost& cost) {
    const auto id = static_cast<std::uint32_t>(b_.body.ops.size());
    OpTemplate op = op_template(node, runtime_, cost);
    const std::int32_t compute = b_.last[static_cast<std::size_t>(StreamKind::compute)];
    if (node.stream == StreamKind::compute && runtime_.kernels_wait_for_receives && receive_ >= 0) {
      deps.push_back(static_cast<std::uint32_t>(receive_));
      receive_ = -1;
    }
    if (node.stream == StreamKind::pp_recv) receive_ = static_cast<std::int32_t>(id);
    if (op.role != kNoRole) {
      if (compute < 0) b_.leading.push_back(id);
      if (compute >= 0 && runtime_.collective_waits_for_issued)
        deps.push_back(static_cast<std::uint32_t>(compute));
    }
    StreamClock clock{};
    const std::int32_t before = b_.last[op.stream];
    if (before >= 0) {
      clock = b_.known[static_cast<std::size_t>(before)];
      clock[op.stream] = b_.sequence[static_cast<std::size_t>(before)];
    }
    std::sort(deps.begin(), deps.end(), std::greater<>());
    op.first_dep = static_cast<std::uint32_t>(b_.body.deps.size());
    for (const std::uint32_t d : deps) {
      const std::uint16_t s = b_.body.ops[d].stream;
      if (clock[s] >= b_.sequence[d]) continue;
      raise_to(clock, b_.known[d]);
      clock[s] = b_.sequence[d];
      b_.body.deps.push_back(d);
      ++op.deps;
    }
    b_.known.push_back(clock);
    b_.sequence.push_back(before < 0 ? 1 : b_.sequence[static_cast<std::size_t>(before)] + 1);
    b_.last[op.stream] = static_cast<std::int32_t>(id);
    for (const TensorId t : node.reads) b_.body.accesses.push_back({id, t, AccessMode::read});
    for (const TensorId t : node.writes) b_.body.accesses.push_back({id, t, AccessMode::write});
    b_.body.infos.push_back({node.name, node.work, node.group, node.layer, node.recompute,
                             node.routed, node.parts, node.part, cost.provenance});
    b_.body.ops.push_back(op);
  }

 private:
  Block& b_;
  const Runtime& runtime_;
  std::int32_t receive_ = -1;  // that no kernel waits for yet
};

// First operator at or after every use of a tensor in the block at whose end all of them are over.
std::uint32_t free_point(const Block& b, const std::vector<std::uint32_t>& uses) {
  const auto over = [&](std::uint32_t at) {
    return std::all_of(uses.begin(), uses.end(), [&](std::uint32_t u) {
      return u == at || b.known[at][b.body.ops[u].stream] >= b.sequence[u];
    });
  };
  std::uint32_t at = *std::max_element(uses.begin(), uses.end());
  while (at + 1 < b.body.ops.size() && !over(at)) ++at;
  return at;
}

struct Uses {                                         // by whole tensor, of it and of its slices
  std::vector<std::vector<std::uint32_t>> by_tensor;  // operators that touch it, ascending
  std::vector<std::int64_t> made_by;                  // the writer that no reader precedes, or -1
};

Uses uses_in(const Block& b, const std::vector<Tensor>& tensors) {
  Uses u{std::vector<std::vector<std::uint32_t>>(tensors.size()),
         std::vector<std::int64_t>(tensors.size(), -1)};
  for (const Access& a : b.body.accesses) {
    if (a.mode == AccessMode::free) continue;
    const TensorId t = owner_of(tensors, a.tensor);
    if (a.mode == AccessMode::write && u.by_tensor[t].empty()) u.made_by[t] = a.op;
    u.by_tensor[t].push_back(a.op);
  }
  return u;
}

void alloc_in(Block& b, std::uint32_t op, const Tensor& t) {
  b.body.ops[op].alloc += t.bytes;
  if (t.routed >= 0) b.body.routed.push_back({op, t.routed, 0, false, t.bytes});
}

void free_in(Block& b, std::uint32_t op, TensorId id, const Tensor& t) {
  b.body.ops[op].free += t.bytes;
  if (t.routed >= 0) b.body.routed.push_back({op, t.routed, 0, true, t.bytes});
  b.body.accesses.push_back({op, id, AccessMode::free});
}

void sort_accesses(Block& b) {
  std::stable_sort(b.body.accesses.begin(), b.body.accesses.end(),
                   [](const Access& x, const Access& y) { return x.op < y.op; });
}

}  // namespace

bool Block::known_after(std::uint32_t op, std::size_t s) const {
  const std::size_t own = body.ops[op].stream;
  if (own == s) return true;
  return last[s] >= 0 && known[static_cast<std::size_t>(last[s])][own] >= sequence[op];
}

bool Block::follows_stream(std::uint32_t op, std::size_t s) const {
  return body.ops[op].stream == s || known[op][s] > 0;
}

Block lower_block(std::string name, const OpGraph& graph, const Runtime& runtime,
                  const Layout& layout, const GroupShapes& shapes, CostCache& costs) {
  Block b;
  b.body.name = std::move(name);
  BlockLowering lowering(b, runtime);
  for (OpId op = 0; op < graph.size(); ++op) {
    const OpNode& node = graph.node(op);
    std::vector<std::uint32_t> deps;
    for (const OpGraph::Edge& e : graph.predecessors(op)) deps.push_back(e.op);
    lowering.add(node, std::move(deps),
                 costs.cost({node.work, shapes[static_cast<std::size_t>(node.group)],
                             layout.ctas_of(node.group), node.parts}));
  }
  return b;
}

void place_tensors(const std::vector<Tensor>& tensors,
                   const std::vector<std::vector<Block*>>& passes,
                   const std::vector<Block*>& after) {
  const std::size_t n = tensors.size();
  std::vector<bool> read_later(n, false);
  const auto note_reads = [&](const Block& b) {
    for (const Access& a : b.body.accesses)
      if (a.mode == AccessMode::read) read_later[owner_of(tensors, a.tensor)] = true;
  };
  for (const Block* b : after) note_reads(*b);
  for (auto pass = passes.rbegin(); pass != passes.rend(); ++pass) {
    for (Block* b : *pass) {
      const Uses u = uses_in(*b, tensors);
      for (TensorId t = 0; t < n; ++t) {
        const Tensor& tensor = tensors[t];
        if (tensor.scope != TensorScope::micro_batch || u.by_tensor[t].empty()) continue;
        if (u.made_by[t] >= 0) alloc_in(*b, static_cast<std::uint32_t>(u.made_by[t]), tensor);
        if (!read_later[t]) free_in(*b, free_point(*b, u.by_tensor[t]), t, tensor);
      }
      sort_accesses(*b);
    }
    for (const Block* b : *pass) note_reads(*b);
  }
}

std::vector<BlockEdge> edges_between(const std::vector<Tensor>& tensors, const Block& from,
                                     const Block& to) {
  constexpr std::uint32_t kNone = ~std::uint32_t{0};
  std::vector<std::uint32_t> writer(tensors.size(), kNone);  // by tensor: the last
  for (const Access& a : from.body.accesses)
    if (a.mode == AccessMode::write) writer[a.tensor] = a.op;
  std::vector<bool> written_here(tensors.size(), false);
  std::vector<BlockEdge> edges;
  for (const Access& a : to.body.accesses) {
    if (a.mode == AccessMode::write) written_here[a.tensor] = true;
    if (a.mode != AccessMode::read) continue;
    each_overlapping(tensors, a.tensor, [&](TensorId t) {
      if (written_here[t] || writer[t] == kNone) return;
      bool implied = false;
      for (std::size_t s = 0; s < kStreamKinds && !implied; ++s)
        implied = from.known_after(writer[t], s) && to.follows_stream(a.op, s);
      if (!implied) edges.push_back({writer[t], a.op});
    });
  }
  std::sort(edges.begin(), edges.end(), [](const BlockEdge& a, const BlockEdge& b) {
    return std::pair(a.to, a.from) < std::pair(b.to, b.from);
  });
  edges.erase(std::unique(edges.begin(), edges.end(),
                          [](const BlockEdge& a, const BlockEdge& b) {
                            return a.to == b.to && a.from == b.from;
                          }),
              edges.end());
  return edges;
}

}  // namespace steploom
