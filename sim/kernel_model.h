// The physical bases that the profile's surfaces correct, and the kernels' times made from both.
//
// A base is a roofline: FLOPs at the peak rate or bytes at the memory bandwidth, whichever takes
// longer. The surface carries the rest (main-loop efficiency, idle SMs, L2 reuse, power
// throttling). Waves of tiles over the SMs are not in the base: with them, points left out of the
// fit were predicted worse (cuBLAS cuts k to fill the last wave; docs/accuracy.md). The fit and the
// cost model call the same functions, so that what was fitted is what is predicted. Times in
// seconds, FLOPs count a multiply-add as two, 16-bit operands.
#pragma once

#include <cstdint>

#include "sim/profile.h"

namespace steploom {

// `groups` products (m × k)·(k × n) with m rows each, in one kernel; 1: an ordinary product.
struct ProductShape {
  double m = 0;
  double n = 0;
  double k = 0;
  double groups = 1;
};

// Causal attention of `tokens` tokens in each of `sequences` sequences.
struct AttentionSize {
  double tokens = 0;
  double sequences = 0;
  double heads = 0;
  double kv_heads = 0;
  double head_dim = 0;  // of q and k
  double v_head_dim = 0;
};

// A query that sees a window is as one of shorter sequences whose queries see as many keys on
// average, and of which there are as many more; one that sees both ways is as one of twice as long
// sequences. FLOPs and bytes are the kernel's own.
AttentionSize attention_size(const Work& attention);

// Without launch latency and without correction.
double product_base(const ProfiledDevice& device, const ProductShape& shape);
double attention_base(const ProfiledDevice& device, const AttentionSize& shape);

// Of backward over forward: five products against two (FlashAttention-2, arXiv 2307.08691, section
// 3.2).
inline constexpr double kAttentionBackwardFlops = 2.5;

// The product of a Work, of one expert and how many there are if it is grouped: the tokens of all
// are shared out evenly, m of a forward product, k of a weight gradient.
ProductShape product_shape(const Work& product);

// FLOPs of causal attention: half of 2·s²·(d_qk + d_v) a head and sequence.
double attention_flops(const AttentionSize& shape);

double matmul_seconds(const Profile& profile, const ProductShape& shape);
double grouped_seconds(const Profile& profile, const ProductShape& shape);
// The same product or attention in another precision.
Work in_precision(const Work& w, Precision p);
// What a product or attention takes in its own precision, of whose products the device's peak rate
// is `peak`, where the 16-bit one takes `seconds`: it is as far from its roofline as that one, and
// further by what was measured of its precision, if anything was. Experts side by side count as one
// product of all their rows.
double in_precision_seconds(const Profile& profile, double peak, const Work& w, double seconds);
// nullptr: nothing was measured of it.
const PrecisionSurface* precision_surface(const Profile& profile, const Work& w);
std::array<double, 3> precision_point(const Work& product);

// The surface of the nearest measured head_dim (the base carries the difference), and the time.
const AttentionSurface& attention_surface(const Profile& profile, const AttentionSize& shape);
double attention_seconds(const Profile& profile, const AttentionSize& shape);

// Points of the surfaces, for the fit.
std::array<double, 3> matmul_point(const ProductShape& shape);
std::array<double, 4> grouped_point(const ProductShape& shape);
std::array<double, 3> attention_point(const AttentionSize& shape);

// Output tiles of the most efficient kernel: how many SMs a product can use.
double product_tiles(const ProductShape& shape);

}  // namespace steploom
