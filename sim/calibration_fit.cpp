#include "sim/calibration_fit.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "models/error.h"

namespace steploom {
namespace {

constexpr std::size_t kFewestLaunches = 16;  // of which a median says something
// Assumed: CUDA holds a host that is about 1,024 launches ahead, so launches this far ahead are not
// paced by the host.
constexpr std::ptrdiff_t kHeldBack = 900;

// Kernels' time by class, mean over the ranks of the stage; all devices if stage is -1.
std::array<Picoseconds, kOpClasses> class_times(const Timeline& t, int stage) {
  std::array<double, kOpClasses> sum{};
  double ranks = 0;
  for (const TimelineDevice& d : t.devices)
    if (stage < 0 || d.stage == stage) ranks += d.multiplicity;
  for (const TimelineEvent& e : t.events) {
    const TimelineDevice& d = t.devices[e.device];
    if ((stage >= 0 && d.stage != stage) || e.kind == OpKind::send_recv) continue;
    sum[static_cast<std::size_t>(class_of(e.kind))] +=
        static_cast<double>(e.end - e.start) * d.multiplicity;
  }
  std::array<Picoseconds, kOpClasses> out{};
  for (std::size_t c = 0; c < sum.size(); ++c)
    if (ranks > 0) out[c] = static_cast<Picoseconds>(std::llround(sum[c] / ranks));
  return out;
}

// Median time between a launch and the launch of a kernel after it; 0 if there are too few.
Picoseconds launch_time(const Timeline& t) {
  struct Launch {
    Picoseconds issued = 0;
    bool collective = false;
  };
  std::vector<Launch> launches;
  std::vector<Picoseconds> ends;
  for (const TimelineEvent& e : t.events) {
    if (e.issued == kUnknownTime) continue;
    launches.push_back({e.issued, is_communication(e.kind)});
    ends.push_back(e.end);
  }
  std::stable_sort(launches.begin(), launches.end(),
                   [](const Launch& a, const Launch& b) { return a.issued < b.issued; });
  std::sort(ends.begin(), ends.end());
  std::vector<Picoseconds> between;
  for (std::size_t i = 1; i < launches.size(); ++i) {
    // What was issued before the first kernel ran stands at 0: when, nobody knows.
    if (launches[i].collective || launches[i - 1].issued == 0) continue;
    const auto finished =
        std::upper_bound(ends.begin(), ends.end(), launches[i].issued) - ends.begin();
    if (static_cast<std::ptrdiff_t>(i) - finished >= kHeldBack) continue;
    between.push_back(launches[i].issued - launches[i - 1].issued);
  }
  if (between.size() < kFewestLaunches) return 0;
  const auto middle = between.begin() + static_cast<std::ptrdiff_t>(between.size() / 2);
  std::nth_element(between.begin(), middle, between.end());
  return *middle;
}

}  // namespace

Calibration fit_calibration(const Timeline& measured, const Timeline& predicted, int stage,
                            Picoseconds assumed_launch, const std::string& reading) {
  const auto seen = class_times(measured, -1), told = class_times(predicted, stage);
  Calibration out;
  out.step = measured.origin.step;
  out.predicted_step = predicted.makespan;
  out.assumed_launch = assumed_launch;
  out.launch = launch_time(measured);
  bool common = false;
  for (std::size_t c = 0; c < seen.size(); ++c) {
    out.classes[c] = {told[c], seen[c]};
    common = common || (told[c] > 0 && seen[c] > 0);
  }
  if (!common)
    throw Error({reading, "", "kernels of a class that the step has", "none of them",
                 "is the trace of a step of this model?"});
  check_factors(out, reading);
  return out;
}

}  // namespace steploom
