// The kernel that stands for a Work which profiles have none of its own for.
#pragma once

#include "models/work.h"

namespace steploom {

// A weight gradient that is added to nothing (Work::fresh) is the product of its shape, a kernel
// that takes as long as an element-wise one (Work::elementwise) is that; others are their own.
Work known_kernel(const Work& work);

}  // namespace steploom
