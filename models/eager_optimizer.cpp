// The optimizer as eager PyTorch runs it: clip_grad_norm_, torch.optim, zero_grad.
#include <utility>

#include "models/eager_costs.h"
#include "models/eager_kernels.h"

namespace steploom {

std::int64_t parameter_tensors(const ModelSpec& m, const StageSpan& stage) {
  const AttentionSpec& a = m.attention;
  const int of_norm = m.norm_bias ? 2 : 1, of_qkv = a.rotary ? 3 : 1, of_up = m.dense.gated ? 2 : 1;
  const std::int64_t layer = 2 * of_norm + of_qkv * (a.qkv_bias ? 2 : 1) + (a.out_bias ? 2 : 1) +
                             (of_up + 1) * (m.dense.bias ? 2 : 1) +
                             (a.qk_norm && a.qk_gain ? 2 : 0);
  std::int64_t sum = layer * stage.layers;
  if (stage.embedding) sum += m.learned_positions ? 2 : 1;
  if (stage.head)
    sum += (m.final_norm ? of_norm : 0) + (m.tied_embeddings && stage.has_embedding_table() ? 0 : 1);
  return sum;
}

namespace {

// An optimizer's kernels over all parameters, and their host time.
struct Update {
  double slow = 0;              // Work::elementwise
  double once = 0, tensor = 0;  // microseconds a step and a parameter tensor
};

Update update_of(Optimizer o) {
  switch (o) {
    case Optimizer::adamw_foreach:
    case Optimizer::sgd:
      return {slow::kForeach, host::kForeach, host::kForeachTensor};
    case Optimizer::adamw_loop:
      return {slow::kLoop, host::kLoop, host::kLoopTensor};
    case Optimizer::adam:
    case Optimizer::adamw_fused:
      break;
  }
  return {slow::kFused, host::kFused, host::kFusedTensor};
}

}  // namespace

Work eager_update(Work update, Optimizer o) {
  update.elementwise = update_of(o).slow;
  return update;
}

void eager_optimizer(const BuildContext& c, const std::vector<StageSpan>& spans, Chunk& chunk) {
  std::int64_t count = 0, layers = 0;
  for (const StageSpan& span : spans) {
    count += parameter_tensors(c.model, span);
    layers += span.layers;
  }
  const auto tensors = static_cast<double>(count);
  const Update update = update_of(c.work.optimizer);
  // What is issued tensor by tensor runs beside what is issued next: a part a layer.
  const std::int64_t parts = c.work.optimizer == Optimizer::adamw_loop ? layers + 1 : 1;
  const double clipping = (host::kClip + host::kClipTensor * tensors) / host::kMean;
  // torch.distributed.pipelining divides gradients by the number of micro-batches.
  bool unscaled = c.layout.pp > 1 && c.layout.micro_batches(c.work.global_batch) > 1;
  const OpGraph old = std::exchange(chunk.optimizer, OpGraph());
  Emitter out(c, chunk, chunk.optimizer);
  for (OpId op = 0; op < old.size(); ++op) {
    OpNode node = old.node(op);
    if (node.work.kind == OpKind::zero_fill) continue;
    if (node.work.kind == OpKind::grad_norm && std::exchange(unscaled, false)) {
      OpNode scale = node;
      scale.name = "gradient scale";
      scale.work.bytes = 2 * node.work.m * c.runtime.grad_bytes;
      scale.work.elementwise = slow::kNone;
      scale.writes.clear();
      scale.launches = (host::kPipelineStep + host::kScaleTensor * tensors) / host::kMean;
      out.op(std::move(scale));
    }
    if (node.work.kind == OpKind::grad_norm) {
      node.work.elementwise = slow::kSquares;
      node.launches = clipping / 2;
    }
    if (node.work.kind != OpKind::adam) {
      out.op(std::move(node));
      continue;
    }
    OpNode clip = node;
    clip.name = "gradient clip";
    clip.work.kind = OpKind::grad_norm;
    clip.work.bytes = 2 * node.work.m * c.runtime.grad_bytes;
    clip.work.elementwise = slow::kClip;
    clip.writes.clear();
    clip.launches = clipping / 2;
    out.op(std::move(clip));
    const double us =
        update.once + update.tensor * tensors + host::kZero + host::kZeroTensor * tensors;
    const Work whole = eager_update(node.work, c.work.optimizer);
    for (std::int64_t i = 0; i < parts; ++i) {
      const auto share = [&](Bytes all) { return all * (i + 1) / parts - all * i / parts; };
      OpNode part = node;
      part.work = whole;
      part.work.m = share(whole.m);
      part.work.bytes = share(whole.bytes);
      part.launches = us / host::kMean / static_cast<double>(parts);
      out.op(std::move(part));
    }
  }
}

}  // namespace steploom
