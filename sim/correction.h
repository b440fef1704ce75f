// Corrections: what a profile learned of one kind of kernel in one phase after its surfaces.
//
// The tables that surfaces are fitted to time short bursts of forward kernels. Measurements on a
// hot card, of backward products, of kernels that only move data, are laid over them as a second,
// coarse grid of octaves: time = surface's time · 2^octaves. A kernel without a correction keeps
// its own.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "models/work.h"
#include "sim/profile.h"

namespace steploom {

// The axes of a kind's correction: m, n, k of a product, with the experts on the rank of a grouped
// one; attention's tokens of a sequence, query heads times sequences, and width of q and v
// together; the bytes moved of anything else. At most kMostAxes; empty for kinds that have none.
std::span<const std::string_view> correction_axes(OpKind kind);

// Where a Work lies on them: one binary logarithm an axis.
std::array<double, kMostAxes> correction_point(const Work& work);

// The profile's correction of that kind and phase, or nullptr.
const Correction* correction_of(const Profile& profile, const Work& work);

}  // namespace steploom
