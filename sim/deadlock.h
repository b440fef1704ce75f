// Why a replay cannot go on: the cycle of operators that wait for each other.
#pragma once

#include <span>
#include <string>

#include "sim/flat_program.h"

namespace steploom {

// Start and end by operator id, kUnknown where there is none. `sms_held_by`, by stream, is the
// operator that holds the SMs for which the stream's head waits, or is before it in line; kNoOp if
// it waits for none; empty: nobody does. Throws Error (ExitStatus::negative) that names the cycle;
// some operator must not have ended.
[[noreturn]] void throw_deadlock(const FlatProgram& flat, std::span<const Picoseconds> start,
                                 std::span<const Picoseconds> end,
                                 std::span<const std::uint32_t> sms_held_by = {});

}  // namespace steploom
