// Is an Execution's arena safe under a Program? What check() is for tensors, this is for their
// bytes.
#pragma once

#include <string>
#include <vector>

#include "profiler/execution.h"
#include "sim/program.h"

namespace steploom {

// Pairs of tensors that share bytes although `program` does not order the last use of the one
// before the first write of the other; empty means safe. At most a hundred are listed. `execution`
// may have been bound to another Program with the same operators.
std::vector<std::string> check_arena(const Program& program, const Execution& execution);

}  // namespace steploom
