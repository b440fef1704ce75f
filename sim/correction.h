// Corrections: what a profile learned of one kind of kernel in one phase after its surfaces.
//
// The tables that surfaces are fitted to time short bursts of forward kernels. Measurements on a
// hot card, of backward products, of kernels that only move data, are laid over them as a second,
// coarse grid of octaves: time = surface's time · 2^octaves. The tables' attention is that of
// inference engines, which do more in it and run other kernels: its correction replaces the
// surface, time = blocked_attention_base · 2^octaves. So does that of grouped products, over
// grouped_base: the tables know whole expert layers only. A kernel without a correction keeps its
// own.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "models/work.h"
#include "sim/profile.h"

namespace steploom {

// The axes of a kind's correction: m, n, k of a product; an expert's tokens, the other two sizes
// and the experts on the rank of a grouped one; attention's width of q and v together, tokens of a
// sequence, and query heads times sequences; of kernels that move data the bytes and the width of a
// row, and where it matters k (Work); the optimizer's bytes. At most kMostAxes; empty for kinds
// that have none.
std::span<const std::string_view> correction_axes(OpKind kind);

// Where a Work lies on them: one binary logarithm an axis.
std::array<double, kMostAxes> correction_point(const Work& work);

// What the correction multiplies, in seconds, where the profile without it says `surface_time`.
double correction_base(const Profile& profile, const Work& work, Picoseconds surface_time);

// The profile's correction of that kind and phase, or nullptr.
const Correction* correction_of(const Profile& profile, const Work& work);

}  // namespace steploom
