#include "planner/costed_cluster.h"

#include <cassert>
#include <utility>

#include "sim/fabric_tables.h"

namespace steploom {

CostedCluster::CostedCluster(Cluster cluster, std::span<const Profile> profiles,
                             const Calibration* calibration)
    : cluster_(std::move(cluster)) {
  assert(profiles.size() == cluster_.device_types().size());
  if (calibration != nullptr) need_one_type(cluster_, "a calibration");
  std::vector<const Contention*> tables;
  sides_.reserve(profiles.size());
  for (std::size_t t = 0; t < profiles.size(); ++t) {
    Cluster own = as_of_type(cluster_, t);
    CostModel costs(profiles[t], own, calibration);
    Contention contention = contention_of(profiles[t], own);
    sides_.push_back({std::move(own), std::move(costs), std::move(contention)});
    tables.push_back(&sides_.back().contention);
  }
  contention_ = stacked(tables);
}

Setting CostedCluster::setting(const ModelSpec& model, const Workload& work, const Runtime& runtime,
                               int sample) const {
  std::span<const DeviceSide> sides = sides_;
  if (cluster_.groups.empty()) sides = {};
  return {model, work, runtime, cluster_, sides_.front().costs, &contention_, sample, sides};
}

}  // namespace steploom
