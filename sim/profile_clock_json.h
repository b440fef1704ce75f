// A profile's clock as JSON, read strictly.
#pragma once

#include <string>

#include "models/json_reader.h"
#include "sim/profile.h"

namespace steploom {

ProfiledClock read_clock(const Json& json);
std::string to_json(const ProfiledClock& clock);

}  // namespace steploom
