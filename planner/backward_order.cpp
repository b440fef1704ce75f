#include "planner/backward_order.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <optional>
#include <tuple>
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

TimedGraph timed(const OpGraph& graph, const std::vector<Tensor>& tensors, const Setting& setting,
                 const Layout& layout, const GroupShapes& shapes, CostCache& costs) {
  const std::size_t n = graph.size();
  TimedGraph out;
  out.waits_for_issued = setting.runtime.collective_waits_for_issued;
  if (setting.contention != nullptr) out.sms = setting.cluster.device.sms;
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
    op.sms = cost.sms;
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

constexpr Picoseconds kUnknownEnd = -1;

// Every stream's next operator, and the earliest of them, over and over.
class Run {
 public:
  Run(const TimedGraph& graph, const std::vector<OpId>& order)
      : graph_(graph), place_(order.size()), compute_before_(order.size(), -1) {
    std::int64_t compute = -1;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const TimedOp& op = graph.ops[order[i]];
      place_[order[i]] = i;
      streams_[op.stream].ops.push_back(order[i]);
      compute_before_[order[i]] = compute;
      if (op.stream == kCompute) compute = order[i];
    }
    t_.start.resize(order.size());
    t_.end.assign(order.size(), kUnknownEnd);
  }

  OrderTimes run() {
    while (Stream* s = earliest()) {
      const OpId id = s->ops[s->next];
      const TimedOp& op = graph_.ops[id];
      const Picoseconds busy = t_.computed();
      if (op.communicates && graph_.sms > 0 && running_ && busy > s->start &&
          graph_.ops[*running_].sms + op.sms > graph_.sms) {
        s->start = busy;
        continue;
      }
      t_.start[id] = s->start;
      t_.end[id] = t_.stream_end[op.stream] = s->start + op.time;
      if (op.stream == kCompute) running_ = id;
      ++s->next;
      s->waits = 0;
      s->known = false;
    }
    return std::move(t_);
  }

 private:
  struct Stream {
    std::vector<OpId> ops;
    std::size_t next = 0, waits = 0;  // of what the next waits for, so many have ended
    bool known = false;
    Picoseconds ready = 0, start = 0;  // of the next; it may start later for want of SMs
  };

  bool know(Stream& s) {
    if (s.known) return true;
    const OpId id = s.ops[s.next];
    const TimedOp& op = graph_.ops[id];
    while (s.waits < op.after.size() && t_.end[op.after[s.waits]] != kUnknownEnd) ++s.waits;
    if (s.waits < op.after.size()) return false;
    Picoseconds start = s.next > 0 ? t_.stream_end[op.stream] + op.gap : 0;
    for (const OpId before : op.after)
      start = std::max(start,
                       t_.end[before] + (graph_.ops[before].stream == op.stream ? 0 : op.latency));
    if (op.communicates && graph_.waits_for_issued && compute_before_[id] >= 0) {
      const Picoseconds end = t_.end[static_cast<std::size_t>(compute_before_[id])];
      if (end == kUnknownEnd) return false;
      start = std::max(start, end + op.latency);
    }
    s.known = true;
    s.ready = s.start = start;
    return true;
  }

  Stream* earliest() {
    Stream* first = nullptr;
    const auto rank = [this](const Stream& s) {
      return std::tuple(s.start, s.ready, place_[s.ops[s.next]]);
    };
    for (Stream& s : streams_)
      if (s.next < s.ops.size() && know(s) && (first == nullptr || rank(s) < rank(*first)))
        first = &s;
    return first;
  }

  const TimedGraph& graph_;
  std::vector<std::size_t> place_;            // by operator: in the order
  std::vector<std::int64_t> compute_before_;  // by operator: the kernel issued last before it
  std::array<Stream, kStreamKinds> streams_;
  std::optional<OpId> running_;  // the last kernel that started
  OrderTimes t_;
};

std::vector<OpId> old_order(const TimedGraph& graph) {
  std::vector<OpId> order(graph.ops.size());
  std::iota(order.begin(), order.end(), OpId{0});
  return order;
}

}  // namespace

OrderTimes times_of(const TimedGraph& graph, const std::vector<OpId>& order) {
  return Run(graph, order).run();
}

// What runs beside its stream takes no place there.
OrderTimes earliest(const TimedGraph& graph) {
  OrderTimes t;
  t.start.resize(graph.ops.size());
  t.end.resize(graph.ops.size());
  std::array<bool, kStreamKinds> used{};
  for (OpId id = 0; id < graph.ops.size(); ++id) {
    const TimedOp& op = graph.ops[id];
    const bool off = op.movable || op.reduces;
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
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = kIssueStep * static_cast<IssueKey>(i);
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
