#include "planner/expert_place.h"

#include <map>

namespace steploom {

RoutedLoads::Place expert_place(const RankTable& table, const Cluster& cluster, std::size_t rank) {
  const std::int32_t group = table.group_of[rank][static_cast<std::size_t>(CommGroup::ep)];
  const std::vector<int> alone{static_cast<int>(rank)};
  const std::vector<int>& ranks =
      group < 0 ? alone : table.groups[static_cast<std::size_t>(group)].ranks;
  RoutedLoads::Place out;
  std::map<int, int> number;  // of nodes
  for (const int r : ranks) {
    if (r == alone.front()) out.member = static_cast<int>(out.node_of.size());
    const int node = cluster.domain_of(r);
    out.node_of.push_back(number.emplace(node, static_cast<int>(number.size())).first->second);
  }
  return out;
}

}  // namespace steploom
