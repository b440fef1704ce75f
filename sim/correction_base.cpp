#include "sim/correction_base.h"

#include <algorithm>
#include <cmath>

#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr double kElement = 2;  // bytes of a 16-bit operand
constexpr double kSum = 4;      // bytes of an fp32 sum

// Of blocked_attention_base: one launch forward, two to three backward; rows of a block; columns
// that a row computes beyond the diagonal and in filling its pipeline. A sequence is rounded up to
// rows of a block forward, which backward would make worse: there to half of it.
constexpr double kAttentionLaunch = 3e-6;  // seconds
constexpr double kBlockRows = 128;
constexpr double kMoreColumns = 256;

constexpr double kGroupedLaunch = 2e-6;  // seconds

// A product's result in tiles of this width, and what power of the rounding up a product feels: the
// library has other tiles too.
constexpr double kTile = 128;
constexpr double kTileExponent = 0.4;

// Elements of a row that a block of ours takes at once: 4 vectors of 8 by each of 512 threads
// (profiler/kernels_loss.cu), one by each of 256 (profiler/kernels_rows.cu).
constexpr double kLossChunk = 4 * 8 * 512;
constexpr double kUnpermuteChunk = 8 * 256;
constexpr double kChunkExponent = 0.5;

// A router of ours is arithmetic: a warp a token, in which a lane holds `slots` experts and goes
// through them for every choice (profiler/kernels_routing.cu).
constexpr double kRouterLaunch = 2e-6;        // seconds
constexpr double kRouterInstruction = 1e-11;  // seconds a token and instruction

double rounded_up(double size, double to) {
  return std::ceil(size / to) * to;
}

double power(double x, double exponent) {
  return portable_exp2(exponent * portable_log2(x));
}

// What a size is rounded up to over itself. Below one tile the surface knows the library's narrow
// kernels, as a router's product of a few columns.
double filling(double size) {
  return size > kTile ? rounded_up(size, kTile) / size : 1;
}

double product_filling(const ProductShape& s) {
  return power(filling(s.m) * filling(s.n), kTileExponent);
}

double chunk_filling(const Work& w) {
  const auto n = static_cast<double>(std::max<std::int64_t>(w.n, 1));
  if (w.kind == OpKind::cross_entropy && w.phase == Phase::forward)
    return power(rounded_up(n, kLossChunk) / n, kChunkExponent);
  if (w.kind == OpKind::unpermute && w.phase == Phase::data_grad)
    return power(rounded_up(n, kUnpermuteChunk) / n, kChunkExponent);
  return 1;
}

double router_base(const Work& w) {
  const double slots = router_slots(w);
  const auto k = static_cast<double>(w.k);
  const double instructions =
      w.phase == Phase::forward ? slots + k * (10 + 3 * slots) : 4 * slots + k;
  return kRouterLaunch + static_cast<double>(w.m) * instructions * kRouterInstruction;
}

}  // namespace

double router_slots(const Work& w) {
  if (w.n <= 32) return 1;
  if (w.n <= 128) return 4;
  return w.n <= 256 && w.phase == Phase::forward ? 8 : 16;
}

double blocked_attention_base(const ProfiledDevice& device, const AttentionSize& size,
                              bool backward) {
  AttentionSize s = size;
  s.tokens = rounded_up(s.tokens, backward ? kBlockRows / 2 : kBlockRows);
  const double times = backward ? kAttentionBackwardFlops : 1;
  const double exact = times * attention_flops(s) / device.peak_flops;
  // The last rows of a sequence take 2·rows/tokens of a head's time, on one SM; half of it is
  // taken not to overlap with other blocks.
  const double last_rows = exact / (s.sequences * s.heads) * kBlockRows / s.tokens * device.sms;
  const double compute = exact * (1 + kMoreColumns / s.tokens) + last_rows;
  const double bytes =
      kElement * s.tokens * s.sequences * (s.heads + s.kv_heads) * (s.head_dim + s.v_head_dim);
  const double memory = (backward ? 2 : 1) * bytes / device.memory_bandwidth;
  return times * kAttentionLaunch + (compute > memory ? compute : memory);
}

double grouped_base(const Profile& profile, const Work& w) {
  const ProductShape s = product_shape(w);
  const double bandwidth = profile.device.memory_bandwidth;
  const double sums =
      w.phase == Phase::weight_grad ? s.groups * s.m * s.n * 2 * kSum / bandwidth : 0;
  const double operands = kElement * s.groups * (s.m * s.k + s.k * s.n + s.m * s.n) / bandwidth;
  const ProductShape dense{s.m * s.groups, s.n, s.k, 1};
  // The dense surface knows nothing of an expert with few rows.
  const double filled = power(rounded_up(s.m, kTile) / s.m * filling(s.n), kTileExponent);
  const double compute = matmul_seconds(profile, dense) * filled + sums;
  return std::max(compute, kGroupedLaunch + operands + sums);
}

double correction_base(const Profile& profile, const Work& w, Picoseconds surface_time) {
  const double surface = static_cast<double>(surface_time) * 1e-12;
  switch (w.kind) {
    case OpKind::matmul:
      return surface * product_filling(product_shape(w));
    case OpKind::grouped_matmul:
      return grouped_base(profile, w);
    case OpKind::attention:
      return blocked_attention_base(profile.device, attention_size(w), w.phase != Phase::forward);
    case OpKind::router:
      return router_base(w);
    default:
      return surface * chunk_filling(w);
  }
}

}  // namespace steploom
