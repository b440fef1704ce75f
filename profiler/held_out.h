// How far a profile is from points that it was not fitted to, by class, and where it is worst.
#pragma once

#include <vector>

#include "profiler/collective_points.h"
#include "profiler/compare.h"
#include "profiler/drawn_asks.h"
#include "sim/profile.h"

namespace steploom {

struct HeldOut {
  // products, grouped products, attention, memory-bound, collectives, total; classes without
  // points are left out. Of a collective the fastest setting counts.
  std::vector<ClassError> classes;
  std::vector<PointError> worst;  // ten at most, the worst first
};
HeldOut held_out(const std::vector<MeasuredPoint>& kernels, const CollectivePoints& collectives,
                 const Profile& profile, const CostModel& model);

// What of a draw was measured, and what was measured beside it.
struct DrawCheck {
  std::int64_t drawn = 0;     // asks and collectives
  std::int64_t measured = 0;  // of those
  std::int64_t others = 0;    // measured, but not drawn
};
DrawCheck check_draw(const DrawnAsks& draw, const std::vector<MeasuredPoint>& kernels,
                     const CollectivePoints& collectives);

}  // namespace steploom
