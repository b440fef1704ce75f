// What a GPU kernel does, from its name: one table of words, first match wins.
//
// For traces of programs that steploom did not run. A kind stands for its class: of the
// element-wise and copying kernels, which frameworks have by the hundred, all are `residual`, the
// plain element-wise kind of the class memory; their own names stay.
#pragma once

#include <optional>
#include <string_view>

#include "models/work.h"

namespace steploom {

// `kernel`: as the profiler writes it; `collective`: its "Collective name", may be empty. No value:
// no rule names it.
std::optional<OpKind> kind_of_kernel(std::string_view kernel, std::string_view collective = "");

}  // namespace steploom
