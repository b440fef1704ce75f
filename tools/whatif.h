// The best plan at every point of the cross product of some sweeps.
//
// Each point is a question of its own, searched whole as `plan` does; a point that cannot be asked
// or has no layout that fits says why. Points are independent: threads share them, and only when
// there are fewer points than threads does a search get several. No answer depends on the threads.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "planner/plan_file.h"
#include "tools/sweep.h"

namespace steploom {

struct WhatIfPoint {
  std::vector<std::size_t> at;  // by sweep: which value
  std::int64_t devices = 0;     // 0: its cluster does not exist
  std::optional<PlanRow> best;
  std::string failure;  // why there is no plan
};

// In the order of nested loops, the first sweep outermost. `flags` must have what no sweep sets
// (check_flags). `progress`: points done, from any thread, one call at a time; may be empty.
std::vector<WhatIfPoint> what_if(const QuestionFlags& flags, const std::vector<Sweep>& sweeps,
                                 unsigned threads,
                                 const std::function<void(std::size_t)>& progress);
std::size_t point_count(const std::vector<Sweep>& sweeps);

// Two neighbouring points, along one sweep, whose best layouts differ in more than their number of
// replicas, which follows from the devices.
struct LayoutChange {
  std::size_t sweep = 0;
  std::size_t from = 0, to = 0;  // points
};
std::vector<LayoutChange> layout_changes(const std::vector<WhatIfPoint>& points,
                                         const std::vector<Sweep>& sweeps);

double tokens_per_second(const WhatIfPoint& point);       // of all devices
double gpu_hours_per_trillion(const WhatIfPoint& point);  // of tokens

}  // namespace steploom
