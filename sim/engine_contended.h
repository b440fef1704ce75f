// Replay with contention: a discrete-event engine.
//
// Time goes from event to event: an operator ends, the host has issued one, a collective's SMs come
// to a wave boundary. At one instant all ends are treated first, then all starts, then the rates of
// whatever is resident beside something new; operators of no duration end in a further round at the
// same instant. So no result depends on the numbering of devices.
//
// What progresses is a *flow*: a kernel, or the members of a collective together once the last has
// started. A flow has remaining work in picoseconds at full speed and a rate out of 65536; when the
// rate changes, the work done since the last change is taken off, rounded down, and its end is
// rescheduled, rounded up. The state of a flow is kept at one stream, its *leader*.
//
// Once a group of devices is as it was whole periods ago (period_watch.h), the periods that are
// left are not gone through: their starts and ends are those of the period before, later by a
// multiple of it. The test holds every time equal to that of the replay which goes through all.
#pragma once

#include "sim/contention.h"
#include "sim/flat_program.h"

namespace steploom {

struct ContendedReplay {
  bool ended = false;                      // all operators
  Picoseconds last = 0;                    // when the last ended
  std::uint64_t skipped = 0;               // operators in periods that were not gone through
  std::vector<std::uint32_t> sms_held_by;  // else: by stream, for whose SMs its head waits
};

enum class Periods {
  all,     // gone through one by one
  filled,  // skipped where they recur, the times of their operators filled in
  needed,  // likewise, but only the times that something reads
};

// Fills start and end; kUnknown where an operator cannot start or end. For `sms_held_by` see
// deadlock.h.
ContendedReplay replay_contended(const FlatProgram& flat, const Contention& contention,
                                 Periods periods, std::vector<Picoseconds>& start,
                                 std::vector<Picoseconds>& end);

std::size_t contended_state_bytes(const FlatProgram& flat);  // start and end included

}  // namespace steploom
