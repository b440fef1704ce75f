// Kernels of the mixture-of-experts part that move rows: router, permutation, sorting.
#include "models/operands.h"
#include "profiler/bind_context.h"

namespace steploom {
namespace {

constexpr ElementType kValue = ElementType::bf16;
constexpr ElementType kIndex = ElementType::int32;
constexpr ElementType kStatistic = ElementType::fp32;

KernelCall router(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const std::int64_t k = c.in.model.moe->top_k;
  const std::int64_t rows = w.m * k;
  if (rows % w.n != 0)
    c.refuse(op, "tokens·top_k in equal shares for the experts",
             std::to_string(rows) + " rows for " + std::to_string(w.n) + " experts");
  if (w.phase != Phase::forward) {
    const TensorRef d_weight = c.read(op, 0, kStatistic, w.m, k);
    const TensorRef weight = c.read(op, 1, kStatistic, w.m, k);
    const TensorRef chosen = c.read(op, 2, kIndex, w.m, k);
    return RouterBackward{c.write(op, 0, kValue, w.m, w.n), d_weight, weight, chosen};
  }
  Router call;
  call.logits = c.read(op, 0, kValue, w.m, w.n);
  call.chosen = c.write(op, 0, kIndex, w.m, k);
  call.weight = c.write(op, 1, kStatistic, w.m, k);
  call.position = c.write(op, 2, kIndex, w.m, k);
  call.source = c.write(op, 3, kIndex, rows, 1);
  call.capacity = rows / w.n;
  call.chunks = c.in.layout.chunks;
  call.mode = c.options.tape;
  for (const RoutingEntry& e : c.out.routing)
    if (e.layer == op.info.layer && e.micro_batch == op.micro_batch) call.tape = e.tape;
  return call;
}

// Rows lie by sender as (etp member, ep member, local expert, place), by expert as (local expert,
// etp member, ep member, place).
KernelCall sort_rows(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const std::int64_t senders = c.in.layout.etp * c.in.layout.ep;
  const std::int64_t local = c.in.model.moe->experts / c.in.layout.ep;
  const bool by_expert = op.info.name == kSortByExpert;
  const TensorRef from = c.read(op, 0, kValue, w.m, w.n);
  return SortRows{c.write(op, 0, kValue, w.m, w.n), from, by_expert ? senders : local,
                  by_expert ? local : senders};
}

KernelCall permute(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  if (op.info.name == kSortByExpert || op.info.name == kSortBySender) return sort_rows(c, op);
  const int k = c.in.model.moe->top_k;
  if (w.phase == Phase::forward) {
    const TensorRef x = c.read(op, 0, kValue, w.m / k, w.n);
    const TensorRef source = c.read(op, 1, kIndex, w.m, 1);
    return Permute{c.write(op, 0, kValue, w.m, w.n), x, source, k};
  }
  const TensorRef dy = c.read(op, 0, kValue, w.m * k, w.n);
  const TensorRef position = c.read(op, 1, kIndex, w.m, k);
  return PermuteBackward{c.write(op, 0, kValue, w.m, w.n), dy, position};
}

KernelCall unpermute(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const int k = c.in.model.moe->top_k;
  if (w.phase == Phase::forward) {
    Unpermute call;
    call.x = c.read(op, 0, kValue, w.m * k, w.n);
    call.position = c.read(op, 1, kIndex, w.m, k);
    call.weight = c.read(op, 2, kStatistic, w.m, k);
    if (op.reads.size() > 3) call.shared = c.read(op, 3, kValue, w.m, w.n);
    call.y = c.write(op, 0, kValue, w.m, w.n);
    return call;
  }
  const std::int64_t tokens = w.m / k;
  UnpermuteBackward call;
  call.dy = c.read(op, 0, kValue, tokens, w.n);
  call.x = c.read(op, 1, kValue, w.m, w.n);
  call.position = c.read(op, 2, kIndex, tokens, k);
  call.weight = c.read(op, 3, kStatistic, tokens, k);
  call.source = c.read(op, 4, kIndex, w.m, 1);
  call.dx = c.write(op, 0, kValue, w.m, w.n);
  call.d_weight = c.write(op, 1, kStatistic, tokens, k);
  return call;
}

}  // namespace

KernelCall bind_moe(BindContext& c, const Operator& op) {
  switch (op.work().kind) {
    case OpKind::router:
      return router(c, op);
    case OpKind::permute:
      return permute(c, op);
    default:
      return unpermute(c, op);
  }
}

}  // namespace steploom
