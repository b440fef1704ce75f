#include "sim/kernel_model.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "models/shapes.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr double kElement = 2;  // bytes of a 16-bit operand

// The smallest tile of output that a tensor-core kernel computes.
constexpr double kTileRows = 64;
constexpr double kTileColumns = 8;

double clamp_one(double x) {
  return x < 1 ? 1 : x;
}

double roofline_seconds(const ProfiledDevice& device, double peak, const Work& w) {
  return std::max(w.flops / peak, static_cast<double>(w.bytes) / device.memory_bandwidth);
}

}  // namespace

AttentionSize attention_size(const Work& w) {
  if (is_masked_otherwise(w)) {
    const double tokens = 2 * mean_keys(attention_shape(w));
    const double sequences = static_cast<double>(w.n) * (static_cast<double>(w.m) / tokens);
    return {tokens,
            sequences,
            static_cast<double>(w.heads),
            static_cast<double>(w.kv_heads),
            static_cast<double>(w.head_dim),
            static_cast<double>(w.v_head_dim)};
  }
  return {static_cast<double>(w.m),        static_cast<double>(w.n),
          static_cast<double>(w.heads),    static_cast<double>(w.kv_heads),
          static_cast<double>(w.head_dim), static_cast<double>(w.v_head_dim)};
}

double product_tiles(const ProductShape& s) {
  return s.groups * std::ceil(s.m / 128) * std::ceil(s.n / 256);
}

double product_base(const ProfiledDevice& device, const ProductShape& s) {
  const double rows = s.m < kTileRows ? kTileRows : s.m;
  const double columns = s.n < kTileColumns ? kTileColumns : s.n;
  const double compute = 2 * s.groups * rows * columns * s.k / device.peak_flops;
  const double bytes = kElement * s.groups * (s.m * s.k + s.k * s.n + s.m * s.n);
  const double memory = bytes / device.memory_bandwidth;
  return compute > memory ? compute : memory;
}

double attention_flops(const AttentionSize& s) {
  return s.tokens * s.tokens * s.sequences * s.heads * (s.head_dim + s.v_head_dim);
}

double attention_base(const ProfiledDevice& device, const AttentionSize& s) {
  const double rows = s.tokens * s.sequences;
  const double bytes =
      kElement * rows *
      (s.heads * (s.head_dim + s.v_head_dim) + s.kv_heads * (s.head_dim + s.v_head_dim));
  const double compute = attention_flops(s) / device.peak_flops;
  const double memory = bytes / device.memory_bandwidth;
  return compute > memory ? compute : memory;
}

ProductShape product_shape(const Work& w) {
  const auto groups = static_cast<double>(std::max<std::int64_t>(w.groups, 1));
  ProductShape s{static_cast<double>(w.m), static_cast<double>(w.n), static_cast<double>(w.k),
                 groups};
  (w.phase == Phase::weight_grad ? s.k : s.m) /= groups;
  return s;
}

std::array<double, 3> matmul_point(const ProductShape& s) {
  return {portable_log2(clamp_one(s.m)), portable_log2(clamp_one(s.n)),
          portable_log2(clamp_one(s.k))};
}

std::array<double, 4> grouped_point(const ProductShape& s) {
  return {portable_log2(clamp_one(s.m)), portable_log2(clamp_one(s.n)),
          portable_log2(clamp_one(s.k)), portable_log2(clamp_one(s.groups))};
}

std::array<double, 3> attention_point(const AttentionSize& s) {
  const double kv_heads = clamp_one(s.kv_heads);
  return {portable_log2(clamp_one(s.tokens)), portable_log2(clamp_one(s.heads * s.sequences)),
          portable_log2(clamp_one(s.heads / kv_heads))};
}

double matmul_seconds(const Profile& profile, const ProductShape& shape) {
  const double base = profile.matmul.launch_us * 1e-6 + product_base(profile.device, shape);
  return base * portable_exp2(octaves_at(profile.matmul.grid, matmul_point(shape)));
}

double grouped_seconds(const Profile& profile, const ProductShape& shape) {
  const Surface& surface = profile.grouped_matmul;
  const double base = surface.launch_us * 1e-6 + product_base(profile.device, shape);
  return base * portable_exp2(octaves_at(surface.grid, grouped_point(shape)));
}

Work in_precision(const Work& w, Precision p) {
  if (w.kind == OpKind::attention) return causal_attention(w.phase, p, attention_shape(w));
  const std::int64_t groups = w.kind == OpKind::grouped_matmul ? w.groups : 0;
  if (w.phase == Phase::data_grad) return grouped_product(w.phase, p, groups, w.m, w.k, w.n);
  if (w.phase == Phase::weight_grad) return grouped_product(w.phase, p, groups, w.k, w.n, w.m);
  return grouped_product(w.phase, p, groups, w.m, w.n, w.k);
}

const PrecisionSurface* precision_surface(const Profile& profile, const Work& w) {
  if (w.kind == OpKind::attention) return nullptr;
  const auto found =
      std::find_if(profile.precisions.begin(), profile.precisions.end(),
                   [&](const PrecisionSurface& s) { return s.precision == w.precision; });
  return found == profile.precisions.end() ? nullptr : &*found;
}

std::array<double, 3> precision_point(const Work& product) {
  ProductShape shape = product_shape(product);
  shape.m *= shape.groups;
  return matmul_point(shape);
}

double in_precision_seconds(const Profile& profile, double peak, const Work& w, double seconds) {
  const Precision half = profile.device.bf16 ? Precision::bf16 : Precision::fp16;
  const double longer =
      roofline_seconds(profile.device, peak, in_precision(w, w.precision)) /
      roofline_seconds(profile.device, profile.device.peak_flops, in_precision(w, half));
  const PrecisionSurface* surface = precision_surface(profile, w);
  const double beyond =
      surface == nullptr ? 1 : portable_exp2(octaves_at(surface->grid, precision_point(w)));
  return seconds * longer * beyond;
}

const AttentionSurface& attention_surface(const Profile& profile, const AttentionSize& shape) {
  return *std::min_element(profile.attention.begin(), profile.attention.end(),
                           [&](const AttentionSurface& a, const AttentionSurface& b) {
                             return std::abs(a.head_dim - shape.head_dim) <
                                    std::abs(b.head_dim - shape.head_dim);
                           });
}

double attention_seconds(const Profile& profile, const AttentionSize& shape) {
  const Surface& surface = attention_surface(profile, shape).surface;
  const double base = surface.launch_us * 1e-6 + attention_base(profile.device, shape);
  return base * portable_exp2(octaves_at(surface.grid, attention_point(shape)));
}

}  // namespace steploom
