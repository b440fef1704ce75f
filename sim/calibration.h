// Calibration: what a trace of the user's own run says of our predictions, class by class.
//
// A class's factor is what its kernels take in a step of the trace over what they were predicted to
// take (calibration_fit.h); a class that the trace or the prediction lacks has none. Beside them
// stands the host's time to issue a kernel.
//
// The cost model applies factors to every duration of their class alike (calibrated(), in
// CostModel::cost), so what is a lower bound stays one. Gaps are not scaled.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "models/runtime.h"
#include "sim/cost.h"

namespace steploom {

// Further off than this, the trace is of something else than the prediction.
inline constexpr double kLeastFactor = 0.5;
inline constexpr double kMostFactor = 2;
inline constexpr Picoseconds kMostLaunch =
    1'000'000'000;  // a millisecond: no host launches so slowly

// A class's kernels in a step, mean over the ranks looked at.
struct CalibratedClass {
  Picoseconds predicted = 0;
  Picoseconds measured = 0;
};

struct Calibration {
  std::string trace;         // the file's name
  std::string trace_digest;  // of its unpacked text
  Picoseconds step = 0;      // of the trace, the median one
  Picoseconds predicted_step = 0;
  std::array<CalibratedClass, kOpClasses> classes{};
  Picoseconds assumed_launch = 0;  // Runtime::launch as it was
  Picoseconds launch = 0;          // as fitted; 0: the trace does not say

  // Measured over predicted; 1 if either is nothing.
  double factor(OpClass c) const;
  bool has_factor(OpClass c) const;
};

// Throws Error that names `reading` and the class of a factor, or the launch, out of range.
void check_factors(const Calibration& calibration, const std::string& reading);

// A cost of this class as calibrated.
Cost calibrated(const Calibration& calibration, OpClass c, Cost cost);
void calibrate(Runtime& runtime, const Calibration& calibration);

}  // namespace steploom
