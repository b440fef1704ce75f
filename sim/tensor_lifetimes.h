// The second property of check.h: reads after writes, frees after all uses.
#pragma once

#include <functional>
#include <string>

#include "sim/flat_program.h"

namespace steploom {

// Calls `fault` with a message for every access out of order, device after device.
void check_lifetimes(const FlatProgram& flat, const std::function<void(std::string)>& fault);

}  // namespace steploom
