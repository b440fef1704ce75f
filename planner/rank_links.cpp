#include "planner/rank_links.h"

#include <algorithm>

#include "sim/program.h"

namespace steploom {

RankLinks::RankLinks(const Setting& s, const std::vector<std::size_t>& type)
    : cluster_(s.cluster), type_(type) {
  for (std::size_t t = 0; t < s.types(); ++t) {
    const Cluster& own = s.sides.empty() ? s.cluster : s.sides[t].cluster;
    speeds_.push_back({own.nvlink.bandwidth, own.nic.bandwidth});
  }
}

std::uint32_t RankLinks::nic(int device) const {
  const int per_nic = std::max(1, cluster_.devices_per_node / cluster_.nics_per_node);
  const int in_node = (device % cluster_.devices_per_node) / per_nic;
  return static_cast<std::uint32_t>(cluster_.devices() +
                                    cluster_.node_of(device) * cluster_.nics_per_node + in_node);
}

std::uint32_t RankLinks::count() const {
  return static_cast<std::uint32_t>(cluster_.devices() + cluster_.nodes * cluster_.nics_per_node);
}

bool RankLinks::is_nic(std::uint32_t link) const {
  return link >= static_cast<std::uint32_t>(cluster_.devices());
}

std::size_t RankLinks::type_at(std::uint32_t link) const {
  if (!is_nic(link)) return type_[link];
  const int node = (static_cast<int>(link) - cluster_.devices()) / cluster_.nics_per_node;
  return type_[static_cast<std::size_t>(node * cluster_.devices_per_node)];
}

std::uint64_t RankLinks::colour(std::uint32_t link) const {
  return 2 * type_at(link) + (is_nic(link) ? 1 : 0);
}

std::vector<std::uint32_t> RankLinks::of(const ProcessGroup& g) const {
  std::vector<std::uint32_t> out;
  for (const int r : g.ranks) {
    if (g.shape.ranks_per_node > 1) out.push_back(static_cast<std::uint32_t>(r));
    if (g.shape.nodes > 1) out.push_back(nic(r));
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::vector<std::pair<std::uint32_t, std::uint32_t>> RankLinks::shares(
    const ProcessGroup& g) const {
  double slowest = speeds_.front().nic;
  for (std::size_t i = 0; speeds_.size() > 1 && i < g.ranks.size(); ++i) {
    const double own = speeds_[type_[static_cast<std::size_t>(g.ranks[i])]].nic;
    slowest = i == 0 ? own : std::min(slowest, own);
  }
  std::vector<std::pair<std::uint32_t, std::uint32_t>> out;
  for (const std::uint32_t link : of(g)) {
    const Speeds& own = speeds_[type_at(link)];
    const double ratio = g.shape.nodes == 1 ? 1 : slowest / (is_nic(link) ? own.nic : own.nvlink);
    out.emplace_back(link, static_cast<std::uint32_t>(std::min(1.0, ratio) * kFullRate));
  }
  return out;
}

}  // namespace steploom
