#include "models/eager_passes.h"

#include <algorithm>
#include <utility>

#include "models/eager_costs.h"
#include "models/graph_rewriter.h"
#include "models/shapes.h"

namespace steploom {
namespace {

double call_of(EagerPass pass) {
  switch (pass) {
    case EagerPass::forward:
      return host::kForwardCall;
    case EagerPass::whole_backward:
    case EagerPass::data_gradients:
      return host::kBackwardCall;
    case EagerPass::weight_gradients:
      break;
  }
  return host::kAction;
}

// One that the graph parts at: of a product or of a norm.
bool parts(const OpNode& node) {
  return node.work.kind == OpKind::matmul || node.work.kind == OpKind::norm;
}

// 0 + the gradient of what the node wrote forward.
OpNode sum_of(const OpNode& node, int depth) {
  const Work& w = node.work;
  const std::int64_t e = bytes_of(w.precision);
  const Bytes moved = w.kind == OpKind::matmul ? 2 * w.k * w.n * e : w.bytes;
  OpNode sum;
  sum.name = node.name + " · gradient + 0";
  sum.layer = node.layer;
  sum.work = streaming(OpKind::residual, Phase::weight_grad, w.precision, w.k, w.n, moved);
  sum.work.elementwise = slow::kNone;
  sum.launches = (host::kWeightNode + host::kWeightNodeDepth * depth) / host::kMean;
  return sum;
}

}  // namespace

OpGraph eager_pass(const OpGraph& graph, EagerPass pass, const StageSpan& stage) {
  GraphRewriter out(graph);
  double call = call_of(pass) / host::kMean;
  for (OpId op = 0; op < graph.size(); ++op) {
    OpNode node = graph.node(op);
    if (pass == EagerPass::data_gradients) node.launches *= host::kDataGradients;
    if (pass == EagerPass::weight_gradients && parts(node)) {
      const int depth = std::clamp(node.layer - stage.first_layer, 0, stage.layers) + 1;
      OpNode sum = sum_of(node, depth);
      sum.launches += std::exchange(call, 0);
      out.add(std::move(sum));
    }
    if (!is_communication(node.work.kind)) node.launches += std::exchange(call, 0);
    out.copy_as(op, std::move(node));
  }
  return out.take();
}

}  // namespace steploom
