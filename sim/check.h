// Is a Program sound? Run after every lowering in debug builds, before every export and execution.
//
// Four properties: dependencies point backwards in issue order (acyclic); every read of a tensor
// comes after its write and before its free; the members of a communicator issue its operators in
// one order with matching kinds and sizes; no circular wait (rendezvous and SMs). The result lists
// what is wrong, in program order; empty means sound.
//
// What an operator knows to have ended when it starts: what its predecessors in stream order,
// dependencies and slot edges knew, and those themselves; what the host waited for before issuing
// it; with one hardware connection, what the operator issued before it knew. An order that rests on
// what another device does is not an order: it changes with that device's schedule.
//
// A micro-batch tensor must be written before it is read; one of scope `step` (a parameter) may be
// there from the beginning. Frees happen when the freeing operator ends, after its own reads.
#pragma once

#include <string>
#include <vector>

#include "sim/program.h"

namespace steploom {

// `program` must be finalized. At most a hundred faults are listed, then how many there are.
std::vector<std::string> check(const Program& program);

}  // namespace steploom
