#include "sim/correction.h"

#include <algorithm>

#include "sim/portable_math.h"

namespace steploom {
namespace {

double log2_of(std::int64_t size) {
  return portable_log2(static_cast<double>(std::max<std::int64_t>(size, 1)));
}

}  // namespace

std::span<const std::string_view> correction_axes(OpKind kind) {
  static constexpr std::string_view kProduct[] = {"m", "n", "k"};
  static constexpr std::string_view kGrouped[] = {"m", "n", "k", "experts"};
  static constexpr std::string_view kAttention[] = {"tokens", "heads_sequences", "widths"};
  static constexpr std::string_view kMoving[] = {"bytes"};
  switch (class_of(kind)) {
    case OpClass::matmul:
      return kProduct;
    case OpClass::grouped_matmul:
      return kGrouped;
    case OpClass::attention:
      return kAttention;
    case OpClass::memory:
    case OpClass::optimizer:
      return kMoving;
    default:
      return {};
  }
}

std::array<double, kMostAxes> correction_point(const Work& w) {
  switch (class_of(w.kind)) {
    case OpClass::matmul:
      return {log2_of(w.m), log2_of(w.n), log2_of(w.k)};
    case OpClass::grouped_matmul:
      return {log2_of(w.m), log2_of(w.n), log2_of(w.k), log2_of(w.groups)};
    case OpClass::attention:
      return {log2_of(w.m), log2_of(w.heads * w.n), log2_of(w.head_dim + w.v_head_dim)};
    default:
      return {log2_of(w.bytes)};
  }
}

const Correction* correction_of(const Profile& profile, const Work& w) {
  for (const Correction& c : profile.corrections)
    if (c.kind == w.kind && c.phase == w.phase) return &c;
  return nullptr;
}

}  // namespace steploom
