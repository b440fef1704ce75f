// How far a fabric's tables are from measured lines that they were not made from.
//
// Collectives are looked up; kernels and collectives beside each other are replayed: two trains of
// operators on two streams of each GPU, as in the measurement, through the engine with the
// fabric's tables. So the whole way from tables through admission to rates is held against what
// both sides did.
#pragma once

#include <string>
#include <vector>

#include "profiler/collective_points.h"
#include "sim/fabric_tables.h"

namespace steploom {

// Speeds beside each other, of that alone.
struct SideRates {
  double first = 0, second = 0;
};

// The replay of the measurement of a point: `kernel` is first.
SideRates replayed(const BesidePoint& point, const Profile& profile, const Cluster& cluster);
SideRates replayed(const PairPoint& point, const Profile& profile, const Cluster& cluster);
SideRates replayed(const CopyBesidePoint& point, const Profile& profile, const Cluster& cluster);
SideRates measured(const BesidePoint& point);
SideRates measured(const PairPoint& point);
SideRates measured(const CopyBesidePoint& point);

struct FabricError {
  std::string what;  // "all_reduce, fastest setting"
  int points = 0;
  double median = 0;  // of |predicted/measured − 1|
  double p95 = 0;     // 95th percentile
  double bias = 0;    // median of predicted/measured − 1
};

// One row a table and class: collectives of `least_bytes` and more, g, kernels and collectives
// beside each other, kernels and copies, two collectives. What a file does not hold gives no row.
std::vector<FabricError> fabric_errors(const CollectivePoints& points, const Profile& profile,
                                       const Cluster& cluster, Bytes least_bytes);

}  // namespace steploom
