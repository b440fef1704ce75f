// What a training step spends its kernel time on, by class: the shares that a measuring budget is
// spent by where no plan is given.
//
// Steps of shipped models in common layouts on 64 devices of the profile's type, lowered and costed
// when asked (some tens of milliseconds, the same every time), each counting as much.
#pragma once

#include "profiler/budget.h"
#include "sim/profile.h"

namespace steploom {

ByClass typical_shares(const Profile& profile);

}  // namespace steploom
