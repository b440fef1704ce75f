// A profile made surer by points measured on the GPU at hand: corrections fitted to them, and the
// points themselves.
#pragma once

#include <string>
#include <vector>

#include "profiler/points.h"
#include "sim/profile.h"

namespace steploom {

// Corrections fitted to the points of all files together are laid over the profile
// (fit_corrections.h); with `keep_points` it then holds the points too, beside those that it had,
// the new ones winning, and of these the last file's.
void lay_points(Profile& profile, const std::vector<Measurements>& files, bool keep_points);

// `base` with what another profile of the same surfaces, device and versions learned; the later of
// the two wins where both know. Throws Error naming what differs.
Profile merge_profiles(const Profile& a, const Profile& b, const std::string& reading_b);

}  // namespace steploom
