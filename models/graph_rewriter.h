// Copying a graph while adding operators: how a pass returns a new graph.
//
// renamed() is the same graph with another tensor in place of one.
//
// copy() appends the next operator of the old graph with its edges; add() appends a new one, which
// depends on the last writers so far of the tensors it reads. Operators that are not copied are
// dropped, with their edges.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "models/op_graph.h"

namespace steploom {

class GraphRewriter {
 public:
  explicit GraphRewriter(const OpGraph& old) : old_(old), moved_(old.size(), kDropped) {}

  OpId copy(OpId op) { return copy_as(op, old_.node(op)); }

  // The same, reading these tensors too.
  OpId copy_reading(OpId op, const std::vector<TensorId>& more) {
    OpNode node = old_.node(op);
    node.reads.insert(node.reads.end(), more.begin(), more.end());
    return copy_as(op, std::move(node), more);
  }

  // Another node in its place, which reads what it does and `more`, and writes what it does.
  OpId copy_as(OpId op, OpNode node, const std::vector<TensorId>& more = {}) {
    const OpId id = graph_.add(std::move(node));
    moved_[op] = id;
    for (const OpGraph::Edge& e : old_.predecessors(op))
      if (moved_[e.op] != kDropped) graph_.depend(moved_[e.op], id, e.tensor);
    for (const TensorId t : more)
      if (t < writer_.size() && writer_[t] != kDropped) graph_.depend(writer_[t], id, t);
    note_writes(id);
    return id;
  }

  OpId add(OpNode node) {
    const OpId id = graph_.add(std::move(node));
    for (const TensorId t : graph_.node(id).reads)
      if (t < writer_.size() && writer_[t] != kDropped) graph_.depend(writer_[t], id, t);
    note_writes(id);
    return id;
  }

  void depend(OpId producer, OpId consumer, TensorId t) { graph_.depend(producer, consumer, t); }

  OpGraph take() { return std::move(graph_); }

 private:
  static constexpr OpId kDropped = ~OpId{0};

  void note_writes(OpId id) {
    for (const TensorId t : graph_.node(id).writes) {
      if (t >= writer_.size()) writer_.resize(t + 1, kDropped);
      writer_[t] = id;
    }
  }

  const OpGraph& old_;
  OpGraph graph_;
  std::vector<OpId> moved_;   // old number -> new
  std::vector<OpId> writer_;  // by tensor
};

inline OpGraph renamed(const OpGraph& graph, TensorId from, TensorId to) {
  const auto name = [&](TensorId t) { return t == from ? to : t; };
  OpGraph out;
  for (OpId op = 0; op < graph.size(); ++op) {
    OpNode node = graph.node(op);
    std::transform(node.reads.begin(), node.reads.end(), node.reads.begin(), name);
    std::transform(node.writes.begin(), node.writes.end(), node.writes.begin(), name);
    const OpId id = out.add(std::move(node));
    for (const OpGraph::Edge& e : graph.predecessors(op)) out.depend(e.op, id, name(e.tensor));
  }
  return out;
}

}  // namespace steploom
