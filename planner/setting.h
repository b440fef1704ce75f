// What a question is about: everything that is given before a layout is chosen.
#pragma once

#include "models/model_spec.h"
#include "models/runtime.h"
#include "models/workload.h"
#include "sim/cluster.h"
#include "sim/contention.h"
#include "sim/cost_cache.h"
#include "sim/cost_model.h"
#include "sim/engine.h"

namespace steploom {

// References must outlive the Setting.
struct Setting {
  const ModelSpec& model;
  const Workload& work;
  const Runtime& runtime;
  const Cluster& cluster;
  const CostModel& costs;
  const Contention* contention = nullptr;  // tables for replays; nullptr: no contention
  int sample = 0;  // which draw of a random routing is meant

  ReplayOptions replaying() const { return {contention}; }
};

}  // namespace steploom
