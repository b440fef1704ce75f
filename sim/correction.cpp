#include "sim/correction.h"

#include <algorithm>

#include "sim/correction_base.h"
#include "sim/operator_bytes.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

double log2_of(std::int64_t size) {
  return portable_log2(static_cast<double>(std::max<std::int64_t>(size, 1)));
}

bool has_choices(OpKind kind) {
  return kind == OpKind::norm || kind == OpKind::rotary || kind == OpKind::router ||
         kind == OpKind::permute || kind == OpKind::unpermute;
}

}  // namespace

std::span<const std::string_view> correction_axes(OpKind kind) {
  static constexpr std::string_view kProduct[] = {"m", "n", "k"};
  static constexpr std::string_view kGrouped[] = {"tokens", "n", "k", "experts"};
  static constexpr std::string_view kAttention[] = {"widths", "tokens", "heads_sequences"};
  static constexpr std::string_view kMoving[] = {"bytes", "width"};
  static constexpr std::string_view kChoosing[] = {"bytes", "width", "choices"};
  switch (class_of(kind)) {
    case OpClass::matmul:
      return kProduct;
    case OpClass::grouped_matmul:
      return kGrouped;
    case OpClass::attention:
      return kAttention;
    case OpClass::memory:
      return has_choices(kind) ? std::span<const std::string_view>(kChoosing) : kMoving;
    case OpClass::optimizer:
      return std::span(kMoving).first(1);
    default:
      return {};
  }
}

std::array<double, kMostAxes> correction_point(const Work& w) {
  switch (class_of(w.kind)) {
    case OpClass::matmul:
      return {log2_of(w.m), log2_of(w.n), log2_of(w.k)};
    case OpClass::grouped_matmul: {
      const bool weight_grad = w.phase == Phase::weight_grad;
      const std::int64_t tokens = (weight_grad ? w.k : w.m) / std::max<std::int64_t>(w.groups, 1);
      return {log2_of(tokens), log2_of(w.n), log2_of(weight_grad ? w.m : w.k), log2_of(w.groups)};
    }
    case OpClass::attention:
      if (is_masked_otherwise(w)) {
        const AttentionSize s = attention_size(w);
        return {log2_of(w.head_dim + w.v_head_dim), portable_log2(std::max(s.tokens, 1.0)),
                portable_log2(std::max(s.heads * s.sequences, 1.0))};
      }
      return {log2_of(w.head_dim + w.v_head_dim), log2_of(w.m), log2_of(w.heads * w.n)};
    default: {
      const double width =
          w.kind == OpKind::router ? portable_log2(32 * router_slots(w)) : log2_of(w.n);
      return {log2_of(operator_bytes(w)), width, log2_of(w.k)};
    }
  }
}

const Correction* correction_of(const Profile& profile, const Work& w) {
  for (const Correction& c : profile.corrections)
    if (c.kind == w.kind && c.phase == w.phase) return &c;
  return nullptr;
}

}  // namespace steploom
