#include "planner/pass_weight_gradients.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "planner/weight_gaps.h"

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::size_t>(StreamKind::compute);
constexpr auto kSend = static_cast<std::size_t>(StreamKind::pp_send);

// Weight gradients, those first that a reduction waits for, in the order of the reductions.
std::vector<OpId> movable(const TimedGraph& graph) {
  std::vector<OpId> out, reduced(graph.ops.size(), static_cast<OpId>(graph.ops.size()));
  for (OpId id = 0; id < graph.ops.size(); ++id) {
    if (graph.ops[id].movable) out.push_back(id);
    if (!graph.ops[id].reduces) continue;
    for (const OpId before : graph.ops[id].after) reduced[before] = std::min(reduced[before], id);
  }
  std::stable_sort(out.begin(), out.end(), [&](OpId a, OpId b) { return reduced[a] < reduced[b]; });
  return out;
}

Picoseconds taken(const TimedOp& op) {
  return op.time + op.gap;
}

// All-to-alls by where they are issued; the parts of one are one.
struct Exchange {
  std::vector<OpId> parts;
  Picoseconds time = 0;
};

std::vector<Exchange> exchanges(const OpGraph& graph, const TimedGraph& times) {
  std::vector<Exchange> out;
  for (OpId id = 0; id < graph.size(); ++id) {
    const OpNode& node = graph.node(id);
    if (node.work.kind != OpKind::all_to_all || node.group != CommGroup::ep) continue;
    const auto same = [&](const Exchange& e) {
      const OpNode& other = graph.node(e.parts.front());
      return node.parts > 1 && other.layer == node.layer && other.name == node.name;
    };
    if (out.empty() || !same(out.back())) out.emplace_back();
    out.back().parts.push_back(id);
    out.back().time += times.ops[id].time;
  }
  return out;
}

// Operators that a path leads to from one of these.
std::vector<bool> reached_from(const TimedGraph& graph, const std::vector<OpId>& from) {
  std::vector<bool> reached(graph.ops.size(), false);
  for (const OpId id : from) reached[id] = true;
  for (OpId id = from.front(); id < graph.ops.size(); ++id)
    for (const OpId before : graph.ops[id].after)
      if (reached[before]) reached[id] = true;
  return reached;
}

std::vector<IssueKey> by_best_fit(const OpGraph& graph, const TimedGraph& times) {
  const std::vector<Exchange> all = exchanges(graph, times);
  const std::vector<OpId> weights = movable(times);
  std::vector<Picoseconds> room, needs;
  std::vector<std::vector<bool>> reached;
  for (const Exchange& e : all) {
    room.push_back(e.time);
    reached.push_back(reached_from(times, e.parts));
  }
  for (const OpId w : weights) needs.push_back(times.ops[w].time);
  const std::vector<int> placed = best_fit(room, needs, [&](std::size_t i, std::size_t j) {
    const TimedOp& op = times.ops[weights[i]];
    const OpId launch = all[j].parts.back();
    return !reached[j][weights[i]] && op.least_writer > launch &&
           std::all_of(op.after.begin(), op.after.end(), [&](OpId b) { return b < launch; });
  });
  std::vector<IssueKey> keys = keys_of(times);
  for (std::size_t i = 0; i < weights.size(); ++i)
    if (placed[i] >= 0)
      keys[weights[i]] = issue_after(all[static_cast<std::size_t>(placed[i])].parts.back());
  return keys;
}

// Where the compute stream waits if it has no weight gradients to run.
struct Gap {
  OpId before = 0;  // the kernel that waits
  Picoseconds start = 0;
  Picoseconds room = 0;
  bool exchange = false;  // an all-to-all, or what belongs to it, is waited for
};

std::vector<Gap> gaps_of(const TimedGraph& graph, const OrderTimes& earliest) {
  std::vector<Gap> out;
  Picoseconds end = -1;
  for (OpId id = 0; id < graph.ops.size(); ++id) {
    const TimedOp& op = graph.ops[id];
    if (op.stream != kCompute || op.movable) continue;
    if (end >= 0 && earliest.start[id] > end + op.gap)
      out.push_back({id, end, earliest.start[id] - end - op.gap, false});
    if (!out.empty() && out.back().before == id)
      for (const OpId before : op.after)
        if (graph.ops[before].stream == static_cast<std::size_t>(StreamKind::ep))
          out.back().exchange = true;
    end = earliest.end[id];
  }
  return out;
}

std::vector<GapItem> items_of(const TimedGraph& graph, const OrderTimes& earliest,
                              const std::vector<OpId>& weights, const std::vector<Gap>& gaps) {
  std::vector<GapItem> out;
  for (const OpId w : weights) {
    const TimedOp& op = graph.ops[w];
    GapItem item{taken(op), 0, static_cast<int>(gaps.size()) - 1};
    const auto there = [&](const Gap& g) {
      return std::all_of(op.after.begin(), op.after.end(),
                         [&](OpId b) { return b < g.before && earliest.end[b] <= g.start; });
    };
    while (item.first <= item.last && !there(gaps[static_cast<std::size_t>(item.first)]))
      ++item.first;
    while (item.last >= 0 && gaps[static_cast<std::size_t>(item.last)].before > op.least_writer)
      --item.last;
    out.push_back(item);
  }
  return out;
}

class Solver {
 public:
  Solver(const OpGraph& graph, const TimedGraph& times, const std::vector<Tensor>& tensors,
         Bytes room)
      : graph_(graph), times_(times), tensors_(tensors), room_(room) {
    for (const TimedOp& op : times.ops) last_of_step_ = last_of_step_ || op.reduces;
  }

  // Nothing but this.
  PlacedWeights only(const std::vector<IssueKey>& keys) {
    begin(earliest(times_));
    best_.order.clear();
    consider(keys);
    return std::move(best_);
  }

  PlacedWeights solve() {
    const OrderTimes first = earliest(times_);
    begin(first);
    consider(by_best_fit(graph_, times_));
    const std::vector<OpId> weights = movable(times_);
    const std::vector<Gap> gaps = gaps_of(times_, first);
    const std::vector<GapItem> items = items_of(times_, first, weights, gaps);
    constexpr int kAny = std::numeric_limits<int>::max();
    for (const bool all : {true, false}) {
      std::vector<Picoseconds> room;  // of every gap, or of those beside all-to-alls
      for (const Gap& g : gaps) room.push_back(all || g.exchange ? g.room : 0);
      for (const int most : {kAny, 8, 4, 2, 1})  // gaps that an item may wait for
        fill(weights, gaps, room, items, most);
    }
    improve(weights);
    return std::move(best_);
  }

 private:
  void fill(const std::vector<OpId>& weights, const std::vector<Gap>& gaps,
            const std::vector<Picoseconds>& room, std::vector<GapItem> items, int most) {
    for (GapItem& i : items)
      if (most < i.last - i.first + 1) i.last = i.first + most - 1;
    const GapFilling filling = fill_gaps(room, items);
    std::vector<IssueKey> keys = keys_of(times_);
    for (std::size_t i = 0; i < weights.size();
         ++i)  // the shortest first: it holds others up least
      if (filling.gap[i] >= 0)
        keys[weights[i]] = issue_before(gaps[static_cast<std::size_t>(filling.gap[i])].before,
                                        std::min(items[i].time, kIssueStep / 4));
    consider(keys);
    for (std::size_t i = 0; i < weights.size(); ++i)
      if (filling.gap[i] < 0 && times_.ops[weights[i]].least_writer == times_.ops.size())
        keys[weights[i]] = kIssueStep * static_cast<IssueKey>(times_.ops.size());
    consider(keys);
  }

  void begin(const OrderTimes& first) {
    const OrderBound bound = bound_of(times_, first);
    consider(keys_of(times_));
    best_.before = best_.time;
    best_.bound = last_of_step_ ? bound.all : bound.computed;
  }

  // While the block takes more than it must: each weight gradient in turn before each kernel. A
  // large block is left after few tries.
  void improve(const std::vector<OpId>& weights) {
    constexpr std::size_t kMostOperators = 20'000;  // looked at
    const std::size_t n = times_.ops.size();
    std::size_t tries = kMostOperators / std::max<std::size_t>(n, 1);
    for (bool better = true; better;) {
      better = false;
      for (const OpId w : weights) {
        std::vector<IssueKey> keys = keys_;
        const TimedOp& op = times_.ops[w];
        for (OpId x = op.after.empty() ? 0 : op.after.back() + 1; x <= n; ++x) {
          if (x > op.least_writer || best_.time <= best_.bound) break;
          if (x < n && (times_.ops[x].stream != kCompute || times_.ops[x].movable)) continue;
          if (tries-- == 0) return;
          keys[w] = issue_before(x);
          const Picoseconds before = best_.time;
          consider(keys);
          better = better || best_.time < before;
        }
      }
    }
  }

  void consider(const std::vector<IssueKey>& keys) {
    std::vector<OpId> order = order_of(times_, keys);
    const OrderTimes t = times_of(times_, order);
    const Picoseconds time = last_of_step_ ? t.all() : t.computed();
    if (!best_.order.empty() && best_.peak <= room_ && time > best_.time) return;
    const Bytes peak = peak_of(graph_, tensors_, order);
    const auto now = std::tuple(peak > room_ ? peak - room_ : 0, time, t.stream_end[kSend], peak);
    if (!best_.order.empty() && now >= score_) return;
    score_ = now;
    keys_ = keys;
    best_.order = std::move(order);
    best_.time = time;
    best_.peak = peak;
  }

  const OpGraph& graph_;
  const TimedGraph& times_;
  const std::vector<Tensor>& tensors_;
  Bytes room_;
  bool last_of_step_ = false;
  PlacedWeights best_;
  std::vector<IssueKey> keys_;                                // of its order
  std::tuple<Bytes, Picoseconds, Picoseconds, Bytes> score_;  // too much memory, ...
};

}  // namespace

PlacedWeights place_weights(const OpGraph& graph, const TimedGraph& times,
                            const std::vector<Tensor>& tensors, WeightPlacement how, Bytes room) {
  Solver solver(graph, times, tensors, room);
  if (how == WeightPlacement::solved) return solver.solve();
  return solver.only(how == WeightPlacement::lancet ? by_best_fit(graph, times) : keys_of(times));
}

OpGraph place_weight_gradients(const OpGraph& backward, const std::vector<Tensor>& tensors,
                               const PassContext& c) {
  const TimedGraph times = timed(backward, tensors, c.setting, c.layout, c.shapes, c.costs);
  const PlacedWeights placed = place_weights(backward, times, tensors, c.layout.dw, c.room);
  return reordered(backward, times, placed.order);
}

}  // namespace steploom
