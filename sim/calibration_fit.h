// From a trace of one rank and the prediction of the same layout to a Calibration.
//
// The factor of a class of operators is its kernels' time in a step of the trace over that in the
// replay of the same layout's prediction, both of one rank of the same pipeline stage, waiting for
// peers included. Point-to-point messages are left out of the fit, because their kernels mostly
// wait for another stage; communication's factor is laid over them too. A class that the trace or
// the prediction lacks has no factor. The host's time to issue a kernel is the median time between
// two launches, where the trace has launches.
#pragma once

#include <string>

#include "sim/calibration.h"
#include "sim/timeline.h"

namespace steploom {

// `measured` of one rank; of `predicted` the devices of pipeline stage `stage` count, replayed with
// a host that takes `assumed_launch` a kernel. Names, digest and steps of the result are filled as
// far as Timelines say. Throws Error that names `reading` and the class if a factor is out of
// range, or if they have nothing in common.
Calibration fit_calibration(const Timeline& measured, const Timeline& predicted, int stage,
                            Picoseconds assumed_launch, const std::string& reading);

}  // namespace steploom
