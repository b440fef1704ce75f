// From what kernels draw to a profile's clock.
//
// The lines of profiler/torch_power.py: kernels run for shares of the time, with nothing beside
// them. Alone a kernel is at the card's power limit; the smaller its share, the faster it runs, up
// to where the limit no longer holds it back. From each such kernel come a reach (its time alone
// over its least) and an exponent (the power it then has over what it has alone, to that reach);
// the profile's are their medians, the reach over kernels that the most clock does not cut off.
// Kernels that move bytes and collectives give what a byte takes.
//
// At which clocks the profile's products and attention ran stands in the raw points that its
// corrections were fitted to: the median in windows of the share of the peak rate.
#pragma once

#include <filesystem>
#include <vector>

#include "profiler/points.h"
#include "sim/profile.h"

namespace steploom {

// Throws Error if the lines or the points do not have what is needed.
void add_clock(Profile& profile, const std::filesystem::path& power,
               const std::vector<Measurements>& points);

}  // namespace steploom
