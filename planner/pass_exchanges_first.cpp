#include "planner/pass_exchanges_first.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace steploom {
namespace {

// From the start of what an all-to-all sends to its end no reduction starts.
struct Barred {
  Picoseconds from = 0, to = 0;
  OpId exchange = 0;
};

std::vector<Barred> barred_times(const OpGraph& graph, const TimedGraph& times,
                                 const OrderTimes& t) {
  std::vector<Barred> out;
  for (OpId id = 0; id < graph.size(); ++id) {
    const OpNode& node = graph.node(id);
    if (node.work.kind != OpKind::all_to_all || node.group != CommGroup::ep) continue;
    Barred b{t.start[id], t.end[id], id};
    for (const OpId before : times.ops[id].after)
      if (times.ops[before].stream == static_cast<std::size_t>(StreamKind::compute))
        b.from = std::min(b.from, t.start[before]);
    out.push_back(b);
  }
  std::sort(out.begin(), out.end(), [](const Barred& a, const Barred& b) { return a.to < b.to; });
  return out;
}

}  // namespace

DeferredGradients defer_gradients(const OpGraph& graph, TimedGraph times) {
  std::vector<OpId> old(graph.size());
  std::iota(old.begin(), old.end(), OpId{0});
  const OrderTimes t = times_of(times, old);
  const std::vector<Barred> barred = barred_times(graph, times, t);
  std::vector<IssueKey> keys = keys_of(times);
  std::vector<Picoseconds> end = t.end;
  std::array<Picoseconds, kStreamKinds> free{};
  for (OpId id = 0; id < graph.size(); ++id) {
    TimedOp& op = times.ops[id];
    if (!op.reduces) continue;
    Picoseconds start = free[op.stream];
    for (const OpId before : op.after) start = std::max(start, end[before]);
    const Barred* last = nullptr;  // the all-to-all that it comes behind
    for (const Barred& b : barred) {
      if (b.from <= start && start < b.to) start = b.to;
      if (b.to <= start && (last == nullptr || b.exchange > last->exchange)) last = &b;
    }
    end[id] = free[op.stream] = start + op.time;
    if (last == nullptr) continue;
    keys[id] = std::max(keys[id], issue_after(last->exchange));
    const auto at = std::lower_bound(op.after.begin(), op.after.end(), last->exchange);
    if (at == op.after.end() || *at != last->exchange) op.after.insert(at, last->exchange);
  }
  std::vector<OpId> order = order_of(times, keys);
  return {std::move(times), std::move(order)};
}

OpGraph put_exchanges_first(const OpGraph& backward, const std::vector<Tensor>& tensors,
                            const PassContext& c) {
  const DeferredGradients deferred =
      defer_gradients(backward, timed(backward, tensors, c.setting, c.layout, c.shapes, c.costs));
  return reordered(backward, deferred.times, deferred.order);
}

}  // namespace steploom
