#include "models/split_backward.h"

#include "models/graph_rewriter.h"

namespace steploom {
namespace {

OpGraph only(const OpGraph& graph, bool weight) {
  GraphRewriter out(graph);
  for (OpId op = 0; op < graph.size(); ++op)
    if ((graph.node(op).work.phase == Phase::weight_grad) == weight) out.copy(op);
  return out.take();
}

}  // namespace

BackwardBlocks split_backward(const OpGraph& backward) {
  return {only(backward, false), only(backward, true)};
}

}  // namespace steploom
