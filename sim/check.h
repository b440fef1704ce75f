// Is a Program sound? Run after every lowering in debug builds, before every export and execution.
//
// Four properties: dependencies point backwards in issue order (acyclic); every read of a tensor
// comes after its write and before its free, through streams, edges and rendezvous; the members of
// a communicator issue its operators in one order with matching kinds and sizes; no circular wait
// (rendezvous and SMs). The result lists what is wrong, in program order; empty means sound.
#pragma once

#include <string>
#include <vector>

#include "sim/program.h"

namespace steploom {

std::vector<std::string> check(const Program& program);

}  // namespace steploom
