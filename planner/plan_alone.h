// A cluster of several types of device, each type by itself: would it be faster to leave the others
// out? The same step, model and batch on the nodes of one type, with the best layout of their
// space.
#pragma once

#include <span>
#include <vector>

#include "planner/make_plan.h"

namespace steploom {

// By type. `profiles` likewise; of the options the time and the threads.
std::vector<TypeAlone> plan_types_alone(const Setting& setting, std::span<const Profile> profiles,
                                        const PlanOptions& options);

}  // namespace steploom
