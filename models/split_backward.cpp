#include "models/split_backward.h"

#include <map>

#include "models/graph_rewriter.h"

namespace steploom {
namespace {

// What waited for an operator of the other block waits for the last one here that writes the same:
// a bucket of gradients for the products, where it had waited for a norm's that came after them.
OpGraph only(const OpGraph& graph, bool weight) {
  const auto here = [&](OpId op) {
    return (graph.node(op).work.phase == Phase::weight_grad) == weight;
  };
  GraphRewriter out(graph);
  std::map<TensorId, OpId> writer;
  for (OpId op = 0; op < graph.size(); ++op) {
    if (!here(op)) continue;
    const OpId id = out.copy(op);
    for (const OpGraph::Edge& e : graph.predecessors(op))
      if (const auto at = writer.find(e.tensor); !here(e.op) && at != writer.end())
        out.depend(at->second, id, e.tensor);
    for (const TensorId t : graph.node(op).writes) writer[t] = id;
  }
  return out.take();
}

}  // namespace

BackwardBlocks split_backward(const OpGraph& backward) {
  return {only(backward, false), only(backward, true)};
}

}  // namespace steploom
