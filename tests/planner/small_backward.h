// A backward graph written by hand, with times of its own.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "planner/backward_order.h"

namespace steploom {

class SmallBackward {
 public:
  SmallBackward() { times.waits_for_issued = false; }

  // Kernels of the data gradients: each reads what the operators `after` wrote.
  OpId kernel(Picoseconds time, const std::vector<OpId>& after) {
    return add("kernel", OpKind::matmul, Phase::data_grad, StreamKind::compute, CommGroup::none,
               time, after);
  }
  OpId exchange(Picoseconds time, const std::vector<OpId>& after) {
    return add("exchange " + std::to_string(graph.size()), OpKind::all_to_all, Phase::data_grad,
               StreamKind::ep, CommGroup::ep, time, after);
  }
  OpId weight(Picoseconds time, const std::vector<OpId>& after) {
    const OpId id = add("weight", OpKind::matmul, Phase::weight_grad, StreamKind::compute,
                        CommGroup::none, time, after);
    tensors[written(id)].scope = TensorScope::step;
    return id;
  }
  // The reduction of what these weight gradients wrote.
  OpId reduce(Picoseconds time, const std::vector<OpId>& of) {
    const OpId id = add("reduce", OpKind::all_reduce, Phase::weight_grad, StreamKind::dp,
                        CommGroup::dp, time, of);
    tensors[written(id)].scope = TensorScope::step;
    return id;
  }

  std::vector<OpId> as_issued() const {
    std::vector<OpId> order;
    for (OpId id = 0; id < graph.size(); ++id) order.push_back(id);
    return order;
  }

  OpGraph graph;
  std::vector<Tensor> tensors;
  TimedGraph times;

 private:
  TensorId written(OpId id) const { return graph.node(id).writes.front(); }

  OpId add(std::string name, OpKind kind, Phase phase, StreamKind stream, CommGroup group,
           Picoseconds time, const std::vector<OpId>& after) {
    OpNode node;
    node.name = std::move(name);
    node.work.kind = kind;
    node.work.phase = phase;
    node.stream = stream;
    node.group = group;
    for (const OpId before : after) node.reads.push_back(written(before));
    tensors.push_back({node.name, 1});
    node.writes = {static_cast<TensorId>(tensors.size() - 1)};
    const OpId id = graph.add(node);
    for (const OpId before : after) graph.depend(before, id, written(before));
    TimedOp op;
    op.time = time;
    op.stream = static_cast<std::size_t>(stream);
    op.communicates = is_communication(kind);
    op.reduces = reduces_gradients(graph.node(id));
    op.movable = phase == Phase::weight_grad && !op.communicates;
    op.least_writer = ~OpId{0};
    op.after = after;
    std::sort(op.after.begin(), op.after.end());
    times.ops.push_back(std::move(op));
    return id;
  }
};

// Every operator once, none before what it waits for, and what may not move as it was.
inline bool legal(const TimedGraph& times, const std::vector<OpId>& order) {
  std::vector<int> place(times.ops.size(), -1);
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (place[order[i]] >= 0) return false;
    place[order[i]] = static_cast<int>(i);
  }
  int last = -1;
  for (OpId id = 0; id < times.ops.size(); ++id) {
    const TimedOp& op = times.ops[id];
    if (place[id] < 0) return false;
    for (const OpId before : op.after)
      if (place[before] > place[id]) return false;
    if (op.movable && op.least_writer < times.ops.size() && place[op.least_writer] < place[id])
      return false;
    if (op.movable || op.reduces) continue;
    if (place[id] < last) return false;
    last = place[id];
  }
  return true;
}

}  // namespace steploom
