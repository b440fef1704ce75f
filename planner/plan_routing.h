// A routing in a plan file: what was drawn from, or the whole recording with its digest.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "models/json_reader.h"
#include "models/routing.h"

namespace steploom {

nlohmann::ordered_json routing_json(const Routing& routing);
Routing read_routing(const Json& in);

}  // namespace steploom
