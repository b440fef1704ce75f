// Durations from a profile and a cluster: the one place where a shape becomes picoseconds.
//
// Kernels come from the profile's surfaces; collectives inside a node from its latency and
// bandwidth curves; collectives between nodes from NCCL's ring, tree and pairwise algorithms over
// the cluster's links (marked modelled). Every formula has its source in docs/how-it-works.md.
#pragma once

#include "sim/cluster.h"
#include "sim/cost.h"
#include "sim/profile.h"

namespace steploom {

class CostModel {
 public:
  // Both must outlive the model.
  CostModel(const Profile& profile, const Cluster& cluster);

  // Thread-safe. Never negative; 0 only for work of no size.
  Cost cost(const CostQuery& query) const;

 private:
  const Profile* profile_;
  const Cluster* cluster_;
};

}  // namespace steploom
