#include "models/added_gradients.h"

#include <algorithm>
#include <utility>

#include "models/graph_rewriter.h"

namespace steploom {

OpGraph with_fresh_gradients(const OpGraph& backward) {
  GraphRewriter out(backward);
  for (OpId op = 0; op < backward.size(); ++op) {
    OpNode node = backward.node(op);
    const bool product =
        node.work.kind == OpKind::matmul || node.work.kind == OpKind::grouped_matmul;
    if (product && node.work.phase == Phase::weight_grad) node.work = as_fresh(node.work);
    out.copy_as(op, std::move(node));
  }
  return out.take();
}

OpGraph with_gradient_sums(const BuildContext& c, const OpGraph& backward) {
  GraphRewriter out(backward);
  for (OpId op = 0; op < backward.size(); ++op) {
    const OpNode& node = backward.node(op);
    out.copy(op);
    if (!node.work.fresh) continue;
    const std::int64_t weights = node.work.m * node.work.n * node.work.groups;
    OpNode sum;
    sum.name = node.name + " gradient sum";
    sum.work = streaming(OpKind::residual, Phase::weight_grad, c.work.precision, node.work.m,
                         node.work.n, weights * (c.e + 2 * c.runtime.grad_bytes));
    sum.work.elementwise = 1;
    sum.layer = node.layer;
    sum.launches = std::min(node.launches, 1.0) / 2;  // in place, nothing recorded
    sum.reads = node.writes;
    sum.writes = node.writes;
    out.add(std::move(sum));
  }
  return out.take();
}

}  // namespace steploom
