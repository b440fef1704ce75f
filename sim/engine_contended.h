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
#pragma once

#include "sim/contention.h"
#include "sim/flat_program.h"

namespace steploom {

// Fills start and end; kUnknown where an operator cannot start or end. True if all ended; else
// `sms_held_by` says, by stream, for whose SMs its head waits (deadlock.h).
bool replay_contended(const FlatProgram& flat, const Contention& contention,
                      std::vector<Picoseconds>& start, std::vector<Picoseconds>& end,
                      std::vector<std::uint32_t>& sms_held_by);

std::size_t contended_state_bytes(const FlatProgram& flat);  // start and end included

}  // namespace steploom
