// The "points" member of a profile's JSON, read as strictly as the rest and written one point a
// line. It has a version of its own: points of another version are refused, whatever else the
// profile holds.
#pragma once

#include <string>

#include "models/json_reader.h"
#include "sim/profile_points.h"

namespace steploom {

// `sms`: of the profile's device; points of a device with another number are refused.
ProfilePoints read_profile_points(const Json& json, int sms);

std::string to_json(const ProfilePoints& points);

}  // namespace steploom
