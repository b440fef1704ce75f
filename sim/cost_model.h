// Durations from a profile and a cluster: the one place where a shape becomes picoseconds.
//
// Kernels come from the profile's surfaces (kernel_model.h); collectives inside a node from its
// latency and bandwidth curves; collectives between nodes from NCCL's ring, tree and pairwise
// algorithms over the cluster's links (collective_model.h; marked modelled). Every formula has its
// source in docs/how-it-works.md.
//
// A kernel that the profile holds an exact point of (profile_points.h) takes that point's median,
// and nothing else is laid over it. A grouped product that was not measured is not credited with
// less than the measured dense product over all its rows. A batched product (one a head) is
// modelled as the dense product over all its rows: cuBLAS cuts both into the same tiles.
//
// A grouped product of uneven groups (Work::skew) is the mean of even ones (expert_loads.h).
//
// One of several equal parts of a whole that was not itself measured is not credited with less time
// than its share of the whole, so that cutting never wins by a table's noise.
//
// A calibration (calibration.h) comes over all of it, last.
//
// What passes on the device before a kernel or a collective is the profile's (Gaps), beside its
// duration and not in it.
//
// Times are those that were measured, at whatever clock the card then had. Where the profile knows
// it, the clock and what the kernel draws stand beside the time; a step's clock is found from them
// (step_clock.h).
//
// A kernel that the profile has none of is costed by one that it has (Work::fresh, elementwise).
//
// Backward is modelled: the profile's products are forward only. A data gradient is the same
// surface at its own shape; a weight gradient too, plus reading and writing its fp32 sum;
// attention's backward does 2.5 times the FLOPs at a lower rate. Attention over windows is always
// modelled, from whole sequences (attention_size). Corrections (correction.h) come
// over it. fp16 is costed as bf16; products and attention of other precisions are modelled, by
// their own rooflines and as far from them as the 16-bit kernel of the shape. bf16 is refused on a
// GPU without it. What the profile calls modelled is never fitted.
#pragma once

#include <array>
#include <span>

#include "sim/calibration.h"
#include "sim/cluster.h"
#include "sim/collective_model.h"
#include "sim/cost.h"
#include "sim/kernel_model.h"
#include "sim/profile.h"

namespace steploom {

class CostModel {
 public:
  // The profile and the calibration must outlive the model. Throws Error if the profile is of
  // another device type.
  CostModel(const Profile& profile, const Cluster& cluster,
            const Calibration* calibration = nullptr);
  const Calibration* calibration() const { return calibration_; }  // or nullptr

  // Thread-safe. Never negative; 0 only for work of no size and collectives of one rank.
  Cost cost(const CostQuery& query) const;

  // How the device's clock follows what it draws; unknown if the profile has no clock.
  ClockLaw clock_law() const { return profile_->clock ? profile_->clock->law : ClockLaw{}; }

  // The lowest that any product or attention was measured at.
  int least_measured_mhz() const;

  // What communicators over the cluster's fabric take of a rank's memory; nullptr: not measured.
  const CommunicatorMemory* communicator_memory() const { return collectives_.memory(); }

  // A grouped product whose groups have so many rows, in place of work.m / work.groups each (of a
  // weight gradient: work.k). Each number stands for equally many groups. expert_loads.h.
  Cost uneven(const Work& grouped_product, std::span<const double> rows) const;

 private:
  Cost duration(const CostQuery& query) const;  // all but the gaps, not calibrated
  Cost whole(const CostQuery& query) const;     // whatever its parts, and no gaps
  Cost uncorrected(const CostQuery& query) const;
  Cost corrected(const CostQuery& query) const;
  Cost other_precision(const CostQuery& query) const;
  Cost product(const Work& work) const;
  double at_least_dense(const ProductShape& shape, bool weight_grad) const;  // seconds
  Cost attention(const Work& work) const;
  Cost moving(const Work& work) const;
  Cost copy(const Work& work) const;
  Cost collective(const CostQuery& query) const;
  void add_clock(const Work& work, Cost& cost) const;

  const Profile* profile_;
  const Calibration* calibration_;
  PointIndex points_;
  CollectiveModel collectives_;
  std::array<double, kPrecisions> peak_of_;  // the cluster's device's
  LinkType host_;                            // likewise
};

}  // namespace steploom
