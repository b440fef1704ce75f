// Chrome traces of the PyTorch profiler (Kineto) as Timelines, as far as they map.
//
//     device                  the event's "device", else its process
//     stream                  the event's "stream", else its thread; named "stream 7"
//     operator                every event of category kernel, gpu_memcpy or gpu_memset
//     kind                    by the kernel's name (kernel_names.h), or our own traces' "kind"
//     group, bytes            from the collectives' arguments, where there are any
//     issued                  when the host's launch of the same "correlation" returned
//
// What a trace of one rank does not have stays unknown: layers, micro-batches, when a collective's
// last member came, what an operator waited for, memory. A trace with several profiler steps
// ("ProfilerStep#7") gives the step of median duration: what the host launched within it; without
// such marks the whole trace is one step. Time begins with the first GPU event.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/json_reader.h"
#include "sim/timeline.h"

namespace steploom {

struct KinetoImport {
  Timeline timeline;
  std::string step;                  // "ProfilerStep#7"; empty: the whole trace
  std::optional<int> rank, world;    // of the process that was traced, where it says
  std::vector<std::string> unnamed;  // kernels that no rule names, as first met; class memory
};

KinetoImport import_kineto(const Json& trace);  // throws Error

}  // namespace steploom
