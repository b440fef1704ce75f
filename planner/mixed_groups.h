// Process groups whose members have several types of device.
//
// A collective, or a message, starts when the last member has come and ends for all at once, so it
// takes as long as for the slowest of their types, on nodes all of that type: rings, trees and
// exchanges go at the least of the bandwidths that they cross. Its draw on links is that type's.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "planner/block.h"
#include "planner/ranks.h"
#include "planner/setting.h"

namespace steploom {

// By rank, its type of device.
std::vector<std::size_t> types_of_ranks(const Cluster& cluster, std::size_t ranks);

// Types, besides a rank's own, of the members of its groups: (role, type).
using OtherTypes = std::vector<std::pair<std::size_t, std::size_t>>;
OtherTypes other_types(const RankTable& table, const std::vector<std::size_t>& type,
                       std::size_t rank);

// Lengthens the operators of a block in whose groups other types take longer. `shapes`: of the
// rank's groups, `costs`: of setting.costs.
void wait_for_slowest(const Setting& setting, const Layout& layout, const OtherTypes& others,
                      const GroupShapes& shapes, CostCache& costs, BlockTemplate& block);

}  // namespace steploom
