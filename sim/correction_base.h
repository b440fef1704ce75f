// What corrections lie over (correction.h): the surface's time where that knows the kernel, a plain
// model of it where it does not, each with the steps that no smooth grid can follow.
//
// Kernels work in whole tiles, blocks and chunks. What they do beyond their shape to fill the last
// one is in the base, part of it where the idle part costs less than its size; the grid carries the
// rest. Tile widths and the exponents were chosen by leave-out errors of whole draws
// (docs/accuracy.md). Seconds.
#pragma once

#include "sim/kernel_model.h"
#include "sim/profile.h"

namespace steploom {

// Attention of either phase: launches, and the roofline with what a fused kernel does beyond its
// FLOPs: a sequence rounded up to whole blocks of rows, whole blocks on the diagonal, and at the
// end SMs that wait for the longest rows.
double blocked_attention_base(const ProfiledDevice& device, const AttentionSize& shape,
                              bool backward);

// Grouped products: the dense surface's product over all experts' rows, each expert's rounded up to
// tiles as in a dense product, and a weight gradient's fp32 sums, read and written; at least what
// the memory takes.
double grouped_base(const Profile& profile, const Work& grouped_product);

// Experts that a lane of our router holds, 32 lanes a token.
double router_slots(const Work& router);

// What is multiplied by 2^octaves of the Work's correction, where the surfaces say `surface_time`
// for it at the bytes that it is known by (operator_bytes.h).
double correction_base(const Profile& profile, const Work& work, Picoseconds surface_time);

}  // namespace steploom
