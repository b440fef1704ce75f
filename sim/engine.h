// The event engine: replays a Program exactly, with CUDA's and NCCL's semantics.
//
// See docs/how-it-works.md, "The engine", for the semantics. In short: operators of a stream run in
// issue order; one starts when it heads its stream, its dependencies have finished and its host has
// issued it (and, with one hardware connection, everything issued before it has started); a
// collective progresses from the moment its last member has started; SMs are admitted by
// (priority, ready time, sequence) and not pre-empted; kernels that run together slow each other by
// the Contention tables; links are shared max-min. No floating point, no randomness: the same
// Program gives the same times on every machine.
//
// Threading: replay() is a pure function of its arguments; call it from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "models/work.h"
#include "sim/program.h"

namespace steploom {

struct Contention;  // contention.h

struct ReplayOptions {
  // nullptr: kernels neither wait for SMs nor slow each other, links are never short.
  const Contention* contention = nullptr;
  bool record_memory = false;  // fill Replay::memory
  bool skip_periods = true;    // false: go through periods that recur too; the times are the same
};

struct MemorySample {
  std::uint32_t device = 0;
  Picoseconds time = 0;
  Bytes bytes = 0;  // balance from this time on, static part included
};

struct Replay {
  Picoseconds makespan = 0;
  std::vector<Picoseconds> start;    // by operator id
  std::vector<Picoseconds> end;      // by operator id
  std::vector<Bytes> peak_memory;    // by device, static part included
  std::vector<MemorySample> memory;  // by time, if asked for
  std::uint64_t skipped = 0;         // operators in periods that were not gone through
};

// Throws Error if the Program deadlocks, with the cycle of operators that wait for each other.
Replay replay(const Program& program, const ReplayOptions& options = {});

// The makespan alone, as replay() has it: faster where periods recur.
Picoseconds makespan(const Program& program, const ReplayOptions& options = {});

// Bytes of dynamic state that replay() holds per operator (start and end included).
std::size_t dynamic_bytes_per_op(const Program& program, const ReplayOptions& options = {});

// FNV-1a over all event times of a fixed set of Programs, as 16 hexadecimal digits: it changes when
// the engine's answers do, and a test holds it to them. Plan files carry it.
std::string_view engine_signature();

}  // namespace steploom
