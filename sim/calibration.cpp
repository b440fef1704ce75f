#include "sim/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "models/error.h"

namespace steploom {
namespace {

double ms(Picoseconds t) {
  return static_cast<double>(t) * 1e-9;
}

}  // namespace

bool Calibration::has_factor(OpClass c) const {
  const CalibratedClass& of = classes[static_cast<std::size_t>(c)];
  return of.predicted > 0 && of.measured > 0;
}

double Calibration::factor(OpClass c) const {
  if (!has_factor(c)) return 1;
  const CalibratedClass& of = classes[static_cast<std::size_t>(c)];
  return static_cast<double>(of.measured) / static_cast<double>(of.predicted);
}

void check_factors(const Calibration& calibration, const std::string& reading) {
  for (int i = 0; i < kOpClasses; ++i) {
    const auto c = static_cast<OpClass>(i);
    const double factor = calibration.factor(c);
    if (factor >= kLeastFactor && factor <= kMostFactor) continue;
    const CalibratedClass& of = calibration.classes[static_cast<std::size_t>(i)];
    throw Error({reading, fmt::format("class {}", name_of(c)),
                 fmt::format("{} to {} times the {:.4g} ms a step predicted", kLeastFactor,
                             kMostFactor, ms(of.predicted)),
                 fmt::format("{:.4g} ms, {:.3g} times", ms(of.measured), factor),
                 "is the trace of one step of this model, batch and layout, on this GPU?"});
  }
  if (calibration.launch > kMostLaunch)
    throw Error({reading, "launches", fmt::format("at most {:g} ms between two", ms(kMostLaunch)),
                 fmt::format("{:.4g} ms", ms(calibration.launch)), ""});
}

Cost calibrated(const Calibration& calibration, OpClass c, Cost cost) {
  if (cost.time == 0 || !calibration.has_factor(c)) return cost;
  const double factor = calibration.factor(c);
  cost.time = static_cast<Picoseconds>(static_cast<double>(cost.time) * factor + 0.5);
  cost.provenance = Provenance::calibrated;
  // What takes longer draws less of its link at a time.
  constexpr double kWholeLink = 65535;
  cost.link_share = static_cast<std::uint16_t>(
      std::min(static_cast<double>(cost.link_share) / factor + 0.5, kWholeLink));
  return cost;
}

void calibrate(Runtime& runtime, const Calibration& calibration) {
  if (calibration.launch > 0) runtime.launch = calibration.launch;
}

}  // namespace steploom
