// Measuring collectives from the command line, on the GPUs of this machine: one process a GPU, of a
// launcher (profiler/place.h) or our own.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "profiler/collective_points.h"
#include "profiler/measure_collectives.h"
#include "profiler/place.h"

namespace steploom {

// Refuses (Error) an unknown fabric or part, and a build that cannot measure.
void check_collectives(const MeasureOptions& options);

// Every rank measures in a process of its own, so that this one has used no CUDA before or after.
// Returns when this machine's ranks have ended: 0, 128 + n if signal n interrupted, else the status
// of one that failed. Throws Error where there are fewer than two GPUs or ranks. Only in a build
// that can measure.
int run_on_local_gpus(const std::string& fabric, const std::function<int(const Place&)>& rank);

// measure_collectives() so.
int run_collectives(const MeasureOptions& options, const std::string& command);

// For a profile: what options.out holds, measured now if it was not there from end to end. None,
// and the reason on standard error, if measuring was interrupted or failed. Throws Error if the
// file is of another fabric, or not of collectives.
std::optional<CollectivePoints> collectives_for_profile(const MeasureOptions& options,
                                                        const std::string& command);

}  // namespace steploom
