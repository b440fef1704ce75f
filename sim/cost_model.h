// Durations from a profile and a cluster: the one place where a shape becomes picoseconds.
//
// Kernels come from the profile's surfaces (kernel_model.h); collectives inside a node from its
// latency and bandwidth curves; collectives between nodes from NCCL's ring, tree and pairwise
// algorithms over the cluster's links (collective_model.h; marked modelled). Every formula has its
// source in docs/how-it-works.md.
//
// A kernel that the profile holds an exact point of (profile_points.h) takes that point's median,
// and nothing else is laid over it. A grouped product that was not measured is not credited with
// less than the measured dense product over all its rows. A batched product (one a head) is modelled
// as the dense product over all its rows: cuBLAS cuts both into the same tiles.
//
// Backward is modelled: the profile's products are forward only. A data gradient is the same
// surface at its own shape; a weight gradient too, plus reading and writing its fp32 sum;
// attention's backward does 2.5 times the FLOPs at a lower rate. Corrections (correction.h) come
// over it. fp16 is costed as bf16. fp32 products and fp32 attention are refused.
#pragma once

#include "sim/cluster.h"
#include "sim/collective_model.h"
#include "sim/cost.h"
#include "sim/kernel_model.h"
#include "sim/profile.h"

namespace steploom {

class CostModel {
 public:
  // The profile must outlive the model. Throws Error if the profile is of another device type.
  CostModel(const Profile& profile, const Cluster& cluster);

  // Thread-safe. Never negative; 0 only for work of no size and collectives of one rank.
  Cost cost(const CostQuery& query) const;

 private:
  Cost uncorrected(const CostQuery& query) const;
  Cost corrected(const CostQuery& query) const;
  Cost product(const Work& work) const;
  double at_least_dense(const ProductShape& shape, bool weight_grad) const;  // seconds
  Cost attention(const Work& work) const;
  Cost moving(const Work& work) const;
  Cost collective(const CostQuery& query) const;

  const Profile* profile_;
  PointIndex points_;
  CollectiveModel collectives_;
};

}  // namespace steploom
