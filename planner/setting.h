// What a question is about: everything that is given before a layout is chosen.
//
// Where a cluster has several types of device, each has a view of the Setting: the cluster as if
// all nodes were of that type, with that type's costs. What is of one rank (its blocks, passes over
// them, its memory) is asked of the view of the rank's type; what is of all (groups, slots, the
// space) of the whole. costed_cluster.h makes both.
#pragma once

#include <cstddef>
#include <span>

#include "models/model_spec.h"
#include "models/runtime.h"
#include "models/workload.h"
#include "sim/cluster.h"
#include "sim/contention.h"
#include "sim/cost_cache.h"
#include "sim/cost_model.h"
#include "sim/engine.h"

namespace steploom {

// One type of device of a cluster with several.
struct DeviceSide {
  Cluster cluster;  // as_of_type()
  CostModel costs;
  Contention contention;
};

// References must outlive the Setting.
struct Setting {
  const ModelSpec& model;
  const Workload& work;
  const Runtime& runtime;
  const Cluster& cluster;
  const CostModel& costs;
  const Contention* contention = nullptr;  // tables for replays; nullptr: no contention
  int sample = 0;                          // which draw of a random routing is meant
  // By type of device; empty: all are of one. Else `costs` is the first type's, and `contention`
  // has the tables of all, stacked().
  std::span<const DeviceSide> sides{};

  ReplayOptions replaying() const { return {contention}; }
  std::size_t types() const { return sides.empty() ? 1 : sides.size(); }
  Setting of_type(std::size_t type) const {
    if (sides.empty()) return *this;
    const DeviceSide& side = sides[type];
    return {model, work, runtime, side.cluster, side.costs, &side.contention, sample};
  }
  Setting with_runtime(const Runtime& other) const {
    return {model, work, other, cluster, costs, contention, sample, sides};
  }
  const DeviceType& device_of_type(std::size_t type) const {
    return sides.empty() ? cluster.device : sides[type].cluster.device;
  }
  bool knows_clocks() const {  // of any type
    bool known = costs.clock_law().known();
    for (const DeviceSide& side : sides) known |= side.costs.clock_law().known();
    return known;
  }
};

}  // namespace steploom
