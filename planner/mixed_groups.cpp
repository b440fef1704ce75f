#include "planner/mixed_groups.h"

#include <algorithm>
#include <set>

namespace steploom {

std::vector<std::size_t> types_of_ranks(const Cluster& cluster, std::size_t ranks) {
  std::vector<std::size_t> out(ranks, 0);
  for (std::size_t r = 0; !cluster.groups.empty() && r < ranks; ++r)
    out[r] = cluster.type(static_cast<int>(r));
  return out;
}

OtherTypes other_types(const RankTable& table, const std::vector<std::size_t>& type,
                       std::size_t rank) {
  OtherTypes out;
  for (std::size_t role = 0; role < kRoles; ++role) {
    const std::int32_t g = table.group_of[rank][role];
    if (g < 0) continue;
    std::set<std::size_t> others;
    for (const int r : table.groups[static_cast<std::size_t>(g)].ranks)
      others.insert(type[static_cast<std::size_t>(r)]);
    others.erase(type[rank]);
    for (const std::size_t t : others) out.emplace_back(role, t);
  }
  return out;
}

void wait_for_slowest(const Setting& s, const Layout& l, const OtherTypes& others,
                      const GroupShapes& shapes, CostCache& costs, BlockTemplate& block) {
  for (const auto& [role, type] : others) {
    const Setting view = s.of_type(type);
    CostCache& its = costs.of(view.costs);
    for (std::size_t i = 0; i < block.ops.size(); ++i) {
      OpTemplate& op = block.ops[i];
      OpInfo& info = block.infos[i];
      if (op.role != role) continue;
      const Cost& cost = its.cost({info.work, shapes[static_cast<std::size_t>(info.group)],
                                   l.ctas_of(info.group), info.parts});
      if (cost.time <= op.duration) continue;
      op.duration = cost.time;
      op.link_share = cost.link_share;
      info.provenance = std::max(info.provenance, cost.provenance);
    }
  }
}

}  // namespace steploom
