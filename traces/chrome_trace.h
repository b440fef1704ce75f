// Timelines as Chrome JSON with Kineto's categories and arguments, as the PyTorch profiler writes.
//
// For Perfetto and chrome://tracing, and for readers of profiles such as Holistic Trace Analysis,
// which wants one file a rank (TraceOptions::device). What stands where:
//
//     process          a device, named as in the Timeline
//     thread           a stream; kernels as complete events, category "kernel"
//     thread "slots"   what the schedule does: "PP:0F3" = stage 0, forward of micro-batch 3; B
//                      backward (PyTorch's names for pipeline actions)
//     counter memory   bytes in use
//     flow             from a send to its receive
//
// Collectives have names that begin with "nccl" and PyTorch's arguments ("Collective name",
// "In msg nelems", "Group size", ...); "op" is our operator's name. Times are microseconds from the
// start of the step, exact to the picosecond. One pass, no document in memory.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>

#include "sim/timeline.h"

namespace steploom {

struct TraceOptions {
  std::string name = "steploom";        // traceName
  std::optional<std::uint32_t> device;  // only this device's events; else all in one file
  int rank = 0;                         // distributedInfo's rank
};

void write_chrome_trace(std::ostream& out, const Timeline& timeline,
                        const TraceOptions& options = {});

}  // namespace steploom
