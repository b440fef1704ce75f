#include "models/split_backward.h"

#include <map>

#include "models/graph_rewriter.h"

namespace steploom {
namespace {

bool is_message(const OpNode& node) {
  return node.stream == StreamKind::pp_send || node.stream == StreamKind::pp_recv;
}

// What waited for an operator that is not here waits for the last one here that writes the same:
// a bucket of gradients for the products, where it had waited for a norm's that came after them.
template <class Here>
OpGraph only(const OpGraph& graph, const Here& here) {
  GraphRewriter out(graph);
  std::map<TensorId, OpId> writer;
  for (OpId op = 0; op < graph.size(); ++op) {
    const OpNode& node = graph.node(op);
    if (!here(node)) continue;
    const OpId id = out.copy(op);
    for (const OpGraph::Edge& e : graph.predecessors(op))
      if (const auto at = writer.find(e.tensor); !here(graph.node(e.op)) && at != writer.end())
        out.depend(at->second, id, e.tensor);
    for (const TensorId t : node.writes) writer[t] = id;
  }
  return out.take();
}

}  // namespace

BackwardBlocks split_backward(const OpGraph& backward) {
  const auto weight = [](const OpNode& node) { return node.work.phase == Phase::weight_grad; };
  return {only(backward, [&](const OpNode& node) { return !weight(node); }),
          only(backward, weight)};
}

PassAndMessages without_messages(const OpGraph& pass) {
  const auto received = [](OpNode node) {
    node.stream = StreamKind::pp_send;
    return node;
  };
  PassAndMessages out{
      only(pass, [](const OpNode& node) { return !is_message(node); }), OpGraph(),
      only(pass, [](const OpNode& node) { return node.stream == StreamKind::pp_send; })};
  for (OpId op = 0; op < pass.size(); ++op)
    if (pass.node(op).stream == StreamKind::pp_recv) out.receive.add(received(pass.node(op)));
  return out;
}

}  // namespace steploom
