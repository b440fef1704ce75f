#include "models/dropout.h"

namespace steploom {

TensorId dropout(Emitter& out, std::string_view name, std::int64_t m, std::int64_t n, TensorId x,
                 TensorId& mask) {
  const BuildContext& c = out.c;
  if (!c.runtime.dropout) return x;
  const TensorId y = out.tensor(name, m * n * c.e);
  mask = out.tensor("dropout mask", m * n * kMaskBytes);
  out.op(name,
         streaming(OpKind::dropout, Phase::forward, c.work.precision, m, n,
                   m * n * (2 * c.e + kMaskBytes)),
         {x}, {y, mask});
  return y;
}

TensorId dropout_backward(Emitter& out, std::string_view name, std::int64_t m, std::int64_t n,
                          TensorId dy, TensorId mask) {
  if (mask == kNoTensor) return dy;
  const BuildContext& c = out.c;
  const TensorId dx = out.tensor(name, m * n * c.e);
  out.op(name,
         streaming(OpKind::dropout, Phase::data_grad, c.work.precision, m, n,
                   m * n * (2 * c.e + kMaskBytes)),
         {dy, mask}, {dx});
  return dx;
}

TensorId add_branch(Emitter& out, std::string_view name, TensorId x, TensorId branch,
                    TensorId& mask) {
  const BuildContext& c = out.c;
  const std::int64_t m = c.shard, h = c.model.hidden;
  if (!c.runtime.dropout)
    return out.stream(name, OpKind::residual, Phase::forward, m, 2 * h, h, {x, branch});
  const TensorId y = out.tensor(name, m * h * c.e);
  mask = out.tensor("dropout mask", m * h * kMaskBytes);
  out.op(name,
         streaming(OpKind::residual, Phase::forward, c.work.precision, m, h,
                   m * h * (3 * c.e + kMaskBytes)),
         {x, branch}, {y, mask});
  return y;
}

TensorId branch_gradient(Emitter& out, std::string_view name, TensorId dy, TensorId mask) {
  return dropout_backward(out, name, out.c.shard, out.c.model.hidden, dy, mask);
}

}  // namespace steploom
