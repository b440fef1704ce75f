#include "sim/known_kernel.h"

#include "models/shapes.h"

namespace steploom {

Work known_kernel(const Work& w) {
  if (w.elementwise > 0)
    return streaming(OpKind::residual, Phase::forward, w.precision, w.m, w.n,
                     static_cast<Bytes>(static_cast<double>(w.bytes) * w.elementwise + 0.5));
  Work as = w;
  if (w.fresh) as.phase = Phase::data_grad;
  as.fresh = false;
  return as;
}

}  // namespace steploom
