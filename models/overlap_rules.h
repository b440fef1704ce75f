// Rules of what overlaps what: chunks, ranges in parts, placed weight gradients, gradient
// collectives, woven passes. Rows of layout_rules() behind all others.
#pragma once

#include <span>

#include "models/layout_rules.h"

namespace steploom {

std::span<const LayoutRule> overlap_rules();

}  // namespace steploom
