#include "profiler/work_asks.h"

#include <string_view>

#include "models/error.h"
#include "sim/known_kernel.h"
#include "sim/profile_points.h"

namespace steploom {
namespace {

// The kernels of ours that stand for an operator: n and k as an Ask has them.
struct Kernel {
  std::string_view provider;
  std::int64_t n = 0;
  std::int64_t k = 0;
};

// One kernel for even experts: the fastest on whatever was measured (docs/measured.md).
constexpr std::string_view kExperts = "cublaslt-padded";

Kernel kernel_of(const Work& w, const ModelSpec& m) {
  switch (w.kind) {
    case OpKind::matmul:
      return {"cublaslt", w.n, w.k};
    case OpKind::grouped_matmul:
      return {kExperts, w.n, w.k};
    case OpKind::norm:
      return {m.norm_bias ? "steploom-layer" : "steploom-rms", w.n, 0};
    case OpKind::activation: {
      // Outputs a row: 6 bytes each forward and 10 backward where gated, 4 and 6 where not.
      const bool forward = w.phase == Phase::forward;
      const std::int64_t gated = forward ? 6 : 10;
      if (m.dense.gated) return {"steploom-swiglu", w.bytes / (gated * w.m), 0};
      return {"steploom-gelu", w.bytes / ((forward ? 4 : 6) * w.m), 0};
    }
    case OpKind::rotary:
      return {
          "steploom", w.n,
          m.attention.qk_rope_head_dim > 0 ? m.attention.qk_rope_head_dim : m.attention.head_dim};
    case OpKind::embedding:
      return {"steploom", w.n, m.vocab};
    case OpKind::router:
    case OpKind::permute:
      return {"steploom", w.n, w.k};
    case OpKind::unpermute:
      // Forward a token's row and k more; the shared expert's counts as one of them. Backward m
      // rows of m / k tokens.
      if (w.phase == Phase::forward) return {"steploom", w.n, w.bytes / (2 * w.m * w.n) - 1};
      return {"steploom", w.n, w.k};
    case OpKind::zero_fill:
      return {"cuda-memset", 1, 0};
    default:
      return {"steploom", w.n, 0};
  }
}

}  // namespace

std::optional<Ask> ask_of(const Work& work, const ModelSpec& model) {
  const Work w = known_kernel(work);
  const OpClass group = class_of(w.kind);
  if (group == OpClass::communication || w.precision != Precision::bf16 || w.m <= 0 || w.n <= 0 ||
      w.bytes <= 0 || is_masked_otherwise(w))
    return std::nullopt;
  // The loss over slices of the vocabulary also has sums of a number or two a token: no rows of
  // logits, which come in whole vectors.
  if (w.kind == OpKind::cross_entropy && w.n % 8 != 0) return std::nullopt;
  try {
    if (group == OpClass::attention) return make_attention_ask(w.phase, attention_of(w), "cudnn");
    const Kernel kernel = kernel_of(w, model);
    Ask ask = make_ask(w.kind, w.phase, w.m, kernel.n, kernel.k,
                       w.kind == OpKind::grouped_matmul ? w.groups : 1, false, kernel.provider);
    if (point_key(operator_of(ask)) != point_key(w)) return std::nullopt;
    return ask;
  } catch (const Error&) {  // no such kernel, or not of such a shape
    return std::nullopt;
  }
}

}  // namespace steploom
