// Rules of how rows go to the experts of other ranks (Layout::dispatcher). Rows of layout_rules()
// behind all others.
#pragma once

#include <span>

#include "models/layout_rules.h"

namespace steploom {

std::span<const LayoutRule> dispatcher_rules();

}  // namespace steploom
