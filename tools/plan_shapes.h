// The shapes that one layout's step rests on and that its profile does not hold as measured.
#pragma once

#include <cstdint>
#include <vector>

#include "models/layout.h"
#include "planner/setting.h"
#include "profiler/asks.h"
#include "sim/cost.h"

namespace steploom {

// A kernel to measure; `share` of the kernels' and collectives' time of the step, over all ranks.
struct ShapeToMeasure {
  Ask ask;
  Picoseconds predicted = 0;
  double share = 0;
};

// A collective whose time is modelled: to measure with nccl-tests.
struct CollectiveToMeasure {
  OpKind collective = OpKind::all_reduce;
  Bytes bytes = 0;
  GroupShape group;
  Picoseconds predicted = 0;
  double share = 0;
};

struct PlanShapes {
  std::vector<ShapeToMeasure> kernels;           // the most time first
  std::vector<CollectiveToMeasure> collectives;  // likewise
  std::int64_t without_kernel = 0;  // shapes of kernels that this program cannot measure
  double without_kernel_share = 0;
};

PlanShapes shapes_to_measure(const Setting& setting, const Layout& layout);

}  // namespace steploom
