// Corrections: what a profile learned of one kind of kernel in one phase after its surfaces.
//
// The tables that surfaces are fitted to time short bursts of forward kernels. Measurements on a
// hot card, of backward products, of kernels that only move data, are laid over them as a second,
// coarse grid of octaves: time = base · 2^octaves. The base (correction_base.h) is the surface's
// time, or a model of its own where the surface is of other kernels: attention (the tables' is that
// of inference engines), grouped products (the tables know whole expert layers only) and the
// router (arithmetic, not bytes). A kernel without a correction keeps the surface's time.
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
// row (of a router what its lanes hold), and where it matters k (Work); the optimizer's bytes. At
// most kMostAxes; empty for kinds that have none.
std::span<const std::string_view> correction_axes(OpKind kind);

// Where a Work lies on them: one binary logarithm an axis.
std::array<double, kMostAxes> correction_point(const Work& work);

// The profile's correction of that kind and phase, or nullptr.
const Correction* correction_of(const Profile& profile, const Work& work);

}  // namespace steploom
