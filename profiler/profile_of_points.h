// Between the raw file of a session (points.h) and the exact points of a profile
// (sim/profile_points.h), and from a GPU's name to the profile that fits it.
#pragma once

#include <string>
#include <vector>

#include "profiler/points.h"
#include "sim/cluster.h"
#include "sim/profile.h"

namespace steploom {

// Points with samples, experts even; of several for one shape the fastest, as a runtime that
// measures would run it. Sorted.
ProfilePoints points_of(const Measurements& measured);

// The points of both; where both have one, b's. Throws Error naming what differs of the devices,
// versions or methods.
ProfilePoints merged(const ProfilePoints& a, const ProfilePoints& b, const std::string& reading);

// A profile's points as they were measured, for fits and comparisons. A point whose provider is
// none of ours is left out.
std::vector<MeasuredPoint> measured_points(const ProfilePoints& points);

// "NVIDIA H200" with 132 SMs fits "h200-sxm-141gb": the model's word is in the driver's name, the
// card's form (SXM, PCIe, NVL) is not another one, and the SMs are as many.
bool fits(const ProfiledDevice& device, const std::string& gpu, int sms);

// The built-in profile that fits, or nullptr.
const Profile* built_in_for(const std::string& gpu, int sms);

// A cluster of the profile's device for costing kernels; its network means nothing.
Cluster cluster_for(const Profile& profile);

}  // namespace steploom
