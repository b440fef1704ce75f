// The critical path: what the step's last operator waited for, and that, back to the step's start.
//
// Walking back from the operator that ends last: a collective began to move when the last of its
// members had started; an operator started when the last thing that it waits for was there, be it
// the operator before it in its stream, a dependency, the host. With contention it may start later
// still, for want of SMs. The segments found tile [0, makespan] without gap or overlap, so what
// they add up to, by class of operator or by the source of its duration, is the whole step.
//
// If several things were there at the same moment, the first in the order of Cause is named.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "models/work.h"
#include "sim/cost.h"
#include "sim/engine.h"
#include "sim/program.h"

namespace steploom {

enum class Cause : std::uint8_t {
  stream,      // the operator before it in its stream
  dependency,  // an operator of its block
  slot_edge,   // an operator of an earlier slot
  rendezvous,  // the member of its communicator that came last
  connection,  // one hardware connection: the start of the operator issued before it
  host,        // the host had to issue it; idle: it was doing so
  waiting,     // none of these: SMs were not free; idle: nor before its gap or latency was over
};
inline constexpr int kCauses = static_cast<int>(Cause::waiting) + 1;
std::string_view name_of(Cause c);  // "slot edge"

struct PathSegment {
  std::uint32_t op = 0;  // operator id; idle: the one that was to start
  std::uint32_t device = 0;
  Picoseconds start = 0;
  Picoseconds end = 0;
  Cause cause = Cause::host;  // what let it begin at `start`; idle: host or waiting, what took time
  bool idle = false;          // the path's operator had not started
};

struct CriticalPath {
  std::vector<PathSegment> segments;  // by time, none empty
  // These add up to the makespan: each of by_class, by_kind and by_provenance with host and
  // waiting.
  std::array<Picoseconds, kOpClasses> by_class{};
  std::array<Picoseconds, kOpKinds> by_kind{};
  std::array<Picoseconds, kProvenances> by_provenance{};
  Picoseconds host = 0;     // idle segments: the host was issuing
  Picoseconds waiting = 0;  // idle segments: waited for SMs, gaps and latencies of events
};

// `replay` must be of `program`, with contention or without.
CriticalPath critical_path(const Program& program, const Replay& replay);

}  // namespace steploom
