// A cluster with what its devices cost: what a Setting refers to, for every type of device.
#pragma once

#include <span>
#include <vector>

#include "planner/setting.h"
#include "sim/calibration.h"
#include "sim/profile.h"

namespace steploom {

class CostedCluster {
 public:
  // `profiles`: by type of device, each of that device; they and the calibration must outlive this.
  CostedCluster(Cluster cluster, std::span<const Profile> profiles,
                const Calibration* calibration = nullptr);
  CostedCluster(const CostedCluster&) = delete;
  CostedCluster& operator=(const CostedCluster&) = delete;

  Setting setting(const ModelSpec& model, const Workload& work, const Runtime& runtime,
                  int sample = 0) const;

 private:
  Cluster cluster_;
  std::vector<DeviceSide> sides_;
  Contention contention_;
};

}  // namespace steploom
