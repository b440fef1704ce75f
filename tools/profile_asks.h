// What a session of `steploom profile` is to measure, and in which order.
#pragma once

#include <optional>

#include "profiler/session.h"
#include "tools/plan_shapes.h"
#include "tools/profile_verbs.h"

namespace steploom {

struct AsksOfSession {
  SessionPlan plan;                  // its budget is still to be set
  std::optional<PlanShapes> shapes;  // of the plan, with --for
};

// From --for, --asks, or the catalogue; `base` is the profile that is to be made surer.
AsksOfSession asks_of_session(const ProfileFlags& flags, const Profile& base);

// --list: prints them.
ExitStatus list_asks(const ProfileFlags& flags);

}  // namespace steploom
