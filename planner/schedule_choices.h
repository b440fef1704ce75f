// The pipeline schedules that a layout of the space may run: a choice that is looked at only where
// the layout's bound survives.
//
// Every order of models/layout.h that the layout's runtime has and that the rules allow for its
// chunks and micro-batches, the scheduler's among them. Their bounds and memory floors differ
// (bounds.h), so each is judged by its own; the layout's are the least of them.
#pragma once

#include <vector>

#include "models/layout.h"
#include "planner/setting.h"

namespace steploom {

// The layout with each of them, 1F1B first where it is allowed; whatever order `layout` says.
// Empty: the rules allow none.
std::vector<Layout> schedule_choices(const Setting& setting, const Layout& layout);

}  // namespace steploom
