#include "planner/backward_order.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::size_t>(StreamKind::compute);

bool weight_kernel(const OpNode& node) {
  return node.work.phase == Phase::weight_grad && node.stream == StreamKind::compute &&
         !is_communication(node.work.kind);
}

}  // namespace

bool reduces_gradients(const OpNode& node) {
  return is_communication(node.work.kind) && node.work.phase == Phase::weight_grad &&
         (node.stream == StreamKind::dp || node.stream == StreamKind::expert_dp);
}

TimedGraph timed(const OpGraph& graph, const std::vector<Tensor>& tensors, const Runtime& runtime,
                 const Layout& layout, const GroupShapes& shapes, CostCache& costs) {
  const std::size_t n = graph.size();
  TimedGraph out;
  out.waits_for_issued = runtime.collective_waits_for_issued;
  out.ops.resize(n);
  std::vector<std::vector<OpId>> writers(tensors.size());
  for (OpId id = 0; id < n; ++id) {
    const OpNode& node = graph.node(id);
    TimedOp& op = out.ops[id];
    const Cost& cost = costs.cost({node.work, shapes[static_cast<std::size_t>(node.group)],
                                   layout.ctas_of(node.group), node.parts});
    op.time = cost.time;
    op.gap = cost.stream_gap;
    op.latency = cost.event_latency;
    op.stream = static_cast<std::size_t>(node.stream);
    op.communicates = is_communication(node.work.kind);
    op.reduces = reduces_gradients(node);
    op.movable = weight_kernel(node);
    op.least_writer = static_cast<OpId>(n);
    for (const OpGraph::Edge& e : graph.predecessors(id)) op.after.push_back(e.op);
    if (op.reduces)
      for (const TensorId t : node.reads)
        op.after.insert(op.after.end(), writers[t].begin(), writers[t].end());
    std::sort(op.after.begin(), op.after.end());
    op.after.erase(std::unique(op.after.begin(), op.after.end()), op.after.end());
    for (const TensorId t : node.writes) writers[t].push_back(id);
  }
  // From the last to the first: what another kernel waits for stays.
  for (OpId id = static_cast<OpId>(n); id-- > 0;) {
    TimedOp& op = out.ops[id];
    if (!op.reduces)
      for (const OpId before : op.after) out.ops[before].movable = false;
    if (!op.movable) continue;
    for (const TensorId read : graph.node(id).reads)
      each_overlapping(tensors, read, [&](TensorId t) {
        const auto later = std::upper_bound(writers[t].begin(), writers[t].end(), id);
        if (later != writers[t].end()) op.least_writer = std::min(op.least_writer, *later);
      });
  }
  return out;
}

Picoseconds OrderTimes::all() const {
  return *std::max_element(stream_end.begin(), stream_end.end());
}

namespace {

// What runs beside its stream takes no place there.
OrderTimes run(const TimedGraph& graph, const std::vector<OpId>& order, bool beside) {
  OrderTimes t;
  t.start.resize(graph.ops.size());
  t.end.resize(graph.ops.size());
  std::array<bool, kStreamKinds> used{};
  for (const OpId id : order) {
    const TimedOp& op = graph.ops[id];
    const bool off = beside && (op.movable || op.reduces);
    Picoseconds start = 0;
    if (!off && used[op.stream]) start = t.stream_end[op.stream] + op.gap;
    for (const OpId before : op.after) {
      const bool other = graph.ops[before].stream != op.stream;
      start = std::max(start, t.end[before] + (other && !off ? op.latency : 0));
    }
    if (!off && op.communicates && graph.waits_for_issued && used[kCompute])
      start = std::max(start, t.stream_end[kCompute] + op.latency);
    t.start[id] = start;
    t.end[id] = start + op.time;
    if (off) continue;
    used[op.stream] = true;
    t.stream_end[op.stream] = t.end[id];
  }
  return t;
}

std::vector<OpId> old_order(const TimedGraph& graph) {
  std::vector<OpId> order(graph.ops.size());
  std::iota(order.begin(), order.end(), OpId{0});
  return order;
}

}  // namespace

OrderTimes times_of(const TimedGraph& graph, const std::vector<OpId>& order) {
  return run(graph, order, false);
}

OrderTimes earliest(const TimedGraph& graph) {
  return run(graph, old_order(graph), true);
}

namespace {

// A stream that runs these one at a time, each no earlier than it is there: the best order is by
// that time, and whatever the order, from any of these times on the rest is still to run.
Picoseconds one_at_a_time(std::vector<std::pair<Picoseconds, Picoseconds>> there_and_time) {
  if (there_and_time.empty()) return 0;
  std::sort(there_and_time.begin(), there_and_time.end());
  Picoseconds end = there_and_time.front().first;
  for (const auto& [there, time] : there_and_time) end = std::max(end, there) + time;
  return end;
}

}  // namespace

OrderBound bound_of(const TimedGraph& graph, const OrderTimes& earliest) {
  // An operator takes its stream from a gap before its start.
  std::array<std::vector<std::pair<Picoseconds, Picoseconds>>, kStreamKinds> jobs;
  for (OpId id = 0; id < graph.ops.size(); ++id) {
    const TimedOp& op = graph.ops[id];
    jobs[op.stream].push_back({earliest.start[id] - op.gap, op.gap + op.time});
  }
  OrderBound bound;
  for (std::size_t s = 0; s < kStreamKinds; ++s) {
    const Picoseconds end = one_at_a_time(std::move(jobs[s]));
    if (s == kCompute) bound.computed = end;
    bound.all = std::max(bound.all, end);
  }
  return bound;
}

std::vector<IssueKey> keys_of(const TimedGraph& graph) {
  std::vector<IssueKey> keys(graph.ops.size());
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = 2 * static_cast<IssueKey>(i);
  return keys;
}

std::vector<OpId> order_of(const TimedGraph& graph, const std::vector<IssueKey>& keys) {
  std::vector<OpId> wanted = old_order(graph), order, held;
  std::stable_sort(wanted.begin(), wanted.end(), [&](OpId a, OpId b) { return keys[a] < keys[b]; });
  std::vector<bool> issued(wanted.size(), false);
  const auto ready = [&](OpId id) {
    const std::vector<OpId>& after = graph.ops[id].after;
    return std::all_of(after.begin(), after.end(), [&](OpId b) { return issued[b]; });
  };
  const auto issue = [&](OpId id) {
    issued[id] = true;
    order.push_back(id);
  };
  for (const OpId id : wanted) {
    if (!ready(id)) {
      held.push_back(id);
      continue;
    }
    issue(id);
    for (std::size_t i = 0; i < held.size();) {
      if (!ready(held[i])) {
        ++i;
        continue;
      }
      issue(held[i]);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
      i = 0;
    }
  }
  assert(held.empty());
  return order;
}

Bytes peak_of(const OpGraph& graph, const std::vector<Tensor>& tensors,
              const std::vector<OpId>& order) {
  constexpr std::size_t kNever = ~std::size_t{0};
  std::vector<std::size_t> last(tensors.size(), kNever);
  const auto each = [&](const OpNode& node, const auto& visit) {
    for (const auto* list : {&node.reads, &node.writes})
      for (const TensorId t : *list) {
        const TensorId owner = owner_of(tensors, t);
        if (tensors[owner].scope == TensorScope::micro_batch) visit(owner, list == &node.writes);
      }
  };
  for (std::size_t i = 0; i < order.size(); ++i)
    each(graph.node(order[i]), [&](TensorId t, bool) { last[t] = i; });
  std::vector<bool> seen(tensors.size(), false);
  Bytes now = 0, peak = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const OpNode& node = graph.node(order[i]);
    std::vector<TensorId> done;
    each(node, [&](TensorId t, bool) {
      if (last[t] == i && std::find(done.begin(), done.end(), t) == done.end()) done.push_back(t);
    });
    each(node, [&](TensorId t, bool writes) {
      if (!seen[t] && writes) now += tensors[t].bytes;
      seen[t] = true;
    });
    peak = std::max(peak, now);
    for (const TensorId t : done) now -= tensors[t].bytes;
  }
  return peak;
}

OpGraph reordered(const OpGraph& graph, const TimedGraph& times, const std::vector<OpId>& order) {
  OpGraph out;
  std::vector<OpId> moved(graph.size());
  for (const OpId id : order) {
    const OpId now = out.add(graph.node(id));
    moved[id] = now;
    const std::vector<OpGraph::Edge> edges = graph.predecessors(id);
    for (const OpGraph::Edge& e : edges) out.depend(moved[e.op], now, e.tensor);
    for (const OpId before : times.ops[id].after)
      if (std::none_of(edges.begin(), edges.end(),
                       [&](const OpGraph::Edge& e) { return e.op == before; }))
        out.depend(moved[before], now, graph.node(before).writes.front());
  }
  return out;
}

}  // namespace steploom
