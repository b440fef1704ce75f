// log2 and exp2 that give the same bits on every machine.
//
// The C library's versions differ between machines in the last place, which is enough to move an
// event and with it a whole schedule. These use + − × ÷ and bit manipulation of IEEE doubles only;
// built with -ffp-contract=off, as all of steploom is, every compiler makes the same sequence of
// roundings. The error is below 1e-12 (absolute for log2, relative for exp2).
#pragma once

#include <cstdint>

#include "models/work.h"

namespace steploom {

// Binary logarithm of a positive, finite, normal number; asserted.
double portable_log2(double x);

// 2 to the power x: 0 below −1022, infinity from 1024 on.
double portable_exp2(double x);

// Seconds to picoseconds, halves away from zero: the one rounding of a duration. Negative times
// are an assertion; times beyond 2^62 ps (53 days) become 2^62.
Picoseconds to_picoseconds(double seconds);

}  // namespace steploom
