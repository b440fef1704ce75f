#include "sim/operator_bytes.h"

namespace steploom {
namespace {

constexpr Bytes kScore = 4;  // bytes of an fp32 score

}  // namespace

Bytes operator_bytes(const Work& w) {
  const Bytes element = bytes_of(w.precision);
  const bool forward = w.phase == Phase::forward;
  switch (w.kind) {
    case OpKind::router:  // logits and fp32 scores
      return w.m * w.n * (forward ? element + kScore : 4 * element);
    case OpKind::cross_entropy:
      return w.m * w.n * (element + kScore);
    case OpKind::unpermute:  // m rows of m / k tokens
      return forward || w.k <= 0 ? w.bytes : (w.m + w.m / w.k) * w.n * element;
    default:
      return w.bytes;
  }
}

}  // namespace steploom
