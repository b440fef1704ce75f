#include "profiler/stream_plans.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "profiler/kernels.h"

namespace steploom {
namespace {

// Scratch of the calls that need some, in bytes.
struct ScratchOf {
  Bytes operator()(const Linear& c) const {
    if (c.phase != Phase::weight_grad || !c.bias) return 0;
    return kernels::column_scratch(c.b.rows, c.b.width) * 4;
  }
  Bytes operator()(const NormBackward& c) const { return kernels::norm_scratch(c.x.width) * 4; }
  Bytes operator()(const Router& c) const {
    return kernels::place_scratch(c.chosen.elements(), static_cast<int>(c.logits.width)) * 4;
  }
  Bytes operator()(const SumOfSquares& c) const {
    return kernels::square_scratch(static_cast<std::int64_t>(c.pieces.size())) * 4;
  }
  template <class Call>
  Bytes operator()(const Call&) const {
    return 0;
  }
};

// Rows, outputs and inputs of a layer from a call's operands.
LinearShape shape_of(Phase phase, const TensorRef& result, const TensorRef& a, const TensorRef& b) {
  switch (phase) {
    case Phase::forward:
      return {a.rows, result.width, a.width, 1};
    case Phase::data_grad:
      return {a.rows, a.width, result.width, 1};
    default:
      return {a.rows, b.width, a.width, 1};
  }
}

}  // namespace

AttentionShape shape_of(const AttentionSizes& s) {
  return {s.sequence, s.sequences, s.heads, s.kv_heads, s.head_dim, s.v_head_dim};
}

bool StreamPlans::AttentionKey::operator<(const AttentionKey& other) const {
  const auto all = [](const AttentionKey& k) {
    const AttentionSizes& s = k.sizes;
    return std::tuple(k.phase, s.sequence, s.sequences, s.heads, s.kv_heads, s.head_dim,
                      s.v_head_dim);
  };
  return all(*this) < all(other);
}

StreamPlans::ProductKey StreamPlans::key_of(const Linear& c) {
  return {c.phase, shape_of(c.phase, c.result, c.a, c.b), c.phase == Phase::forward && c.bias};
}

StreamPlans::ProductKey StreamPlans::key_of(const ExpertLinear& c) {
  LinearShape shape = shape_of(c.phase, c.result, c.a, c.b);
  shape.tokens /= c.experts;
  shape.batch = c.experts;
  return {c.phase, shape, false};
}

void StreamPlans::add(const ProductKey& key, const PlanChoices& choices) {
  if (products_.contains(key)) return;
  if (!blas_) blas_ = std::make_unique<Blas>();
  products_.emplace(key, Product(*blas_, key.phase, key.shape, {key.bias, choices.algorithm}));
}

void StreamPlans::add(const AttentionKey& key, const PlanChoices& choices) {
  if (attentions_.contains(key)) return;
  if (!dnn_) dnn_ = std::make_unique<Dnn>();
  const AttentionShape shape = steploom::shape_of(key.sizes);
  AttentionPlan plan(*dnn_, key.phase, shape, packed_layout(shape), choices.attention);
  need_scratch(plan.workspace_bytes());
  attentions_.emplace(key, std::move(plan));
}

void StreamPlans::need_scratch(Bytes bytes) {
  scratch_bytes_ = std::max(scratch_bytes_, bytes);
}

void StreamPlans::plan(const KernelCall& call, const PlanChoices& choices) {
  need_scratch(std::visit(ScratchOf{}, call));
  if (const auto* linear = std::get_if<Linear>(&call)) add(key_of(*linear), choices);
  if (const auto* experts = std::get_if<ExpertLinear>(&call)) add(key_of(*experts), choices);
  if (const auto* forward = std::get_if<Attention>(&call))
    add(AttentionKey{Phase::forward, forward->sizes}, choices);
  if (const auto* backward = std::get_if<AttentionBackward>(&call))
    add(AttentionKey{Phase::data_grad, backward->sizes}, choices);
}

void StreamPlans::allocate() {
  scratch_ = DeviceBuffer(scratch_bytes_);
}

Bytes StreamPlans::bytes() const {
  return scratch_.bytes() + (blas_ ? Blas::workspace_bytes() : 0);
}

}  // namespace steploom
