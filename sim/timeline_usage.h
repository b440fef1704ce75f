// How a Timeline's devices spent their step: by class, by stream, by process group, and idle.
//
// Defined on times alone, so alike for simulated, executed and imported Timelines. Exposed
// communication is time in which it is under way, waiting for peers included, and no compute
// kernel of the device runs. (Elsewhere steploom defines exposed by replay, what the step would
// save if that communication were free; a measured Timeline cannot be replayed.)
//
// All times are means over ranks, rounded to picoseconds.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "sim/timeline.h"

namespace steploom {

struct StreamUsage {
  std::string name;
  Picoseconds busy = 0;
};

// The collectives of one kind over one kind of group.
struct CommunicationUsage {
  std::string what;         // "ep all_to_all"
  Picoseconds busy = 0;     // of it exposed, the rest is hidden
  Picoseconds exposed = 0;  // no compute kernel ran
  Picoseconds waiting = 0;  // started, but its last member had not
  Picoseconds hidden() const { return busy - exposed; }
};

// Why no compute kernel ran. The first that holds at a moment counts.
struct IdleUsage {
  Picoseconds communication = 0;  // communication was progressing
  Picoseconds peers = 0;          // a collective waited for its last member
  Picoseconds host = 0;           // the host had not yet issued the next compute kernel
  Picoseconds other = 0;          // gaps between kernels, pipeline bubble
  Picoseconds total() const { return communication + peers + host + other; }
};

struct TimelineUsage {
  std::array<Picoseconds, kOpClasses> by_class{};
  std::vector<StreamUsage> streams;               // those that ran anything, by stream number
  std::vector<CommunicationUsage> communication;  // by name
  IdleUsage idle;
};

TimelineUsage usage_of(const Timeline& timeline);

}  // namespace steploom
