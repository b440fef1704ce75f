// What groups of ranks draw on the cluster's links, as the engine shares them: one NVLink port a
// device, then the NICs, node after node. Shares are of a link's own capacity, out of kFullRate.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "planner/ranks.h"
#include "planner/setting.h"

namespace steploom {

class RankLinks {
 public:
  // `type`: by rank, its type of device.
  RankLinks(const Setting& setting, const std::vector<std::size_t>& type);

  std::uint32_t count() const;
  std::vector<std::uint32_t> of(const ProcessGroup& group) const;  // ascending
  // NVLink or NIC, and of which type of device.
  std::uint64_t colour(std::uint32_t link) const;
  // Of each of a group's links, what it takes when it runs at full speed: where its members' NICs
  // differ, all send as fast as the slowest.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> shares(const ProcessGroup& group) const;

 private:
  std::uint32_t nic(int device) const;
  bool is_nic(std::uint32_t link) const;
  std::size_t type_at(std::uint32_t link) const;

  const Cluster& cluster_;
  const std::vector<std::size_t>& type_;
  struct Speeds {
    double nvlink = 0, nic = 0;
  };
  std::vector<Speeds> speeds_;  // by type
};

}  // namespace steploom
