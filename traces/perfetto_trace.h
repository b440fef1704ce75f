// Timelines as Perfetto's protobuf traces (half of the Chrome form's size), for
// https://ui.perfetto.dev and trace_processor.
//
// Field numbers are those of Perfetto's protos/perfetto/trace (trace_packet.proto, track_event/).
// A device is a process track; its streams, and the passes of its schedule ("slots"), are tracks
// under it, its memory a counter. An operator is a slice; its end is the start of the next one at
// the earliest, so slices of a stream do not overlap. From a send to its receive leads a flow; it
// ends in an instant on the receive's track, at the time from which both are there, because the
// receive may have begun to wait before. Timestamps are nanoseconds from the start of the step,
// rounded down; exact picoseconds are arguments.
#pragma once

#include <iosfwd>

#include "sim/timeline.h"

namespace steploom {

void write_perfetto_trace(std::ostream& out, const Timeline& timeline);

}  // namespace steploom
