// Where a rank stands in its expert-parallel group.
#pragma once

#include "planner/ranks.h"
#include "planner/routed_loads.h"

namespace steploom {

RoutedLoads::Place expert_place(const RankTable& ranks, const Cluster& cluster, std::size_t rank);

}  // namespace steploom
