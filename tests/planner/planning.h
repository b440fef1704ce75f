// A setting for planner tests: shipped model, built-in cluster, its profile, and gaps between
// kernels even if it has none.
#pragma once

#include <string>

#include "models/config_reader.h"
#include "planner/setting.h"
#include "sim/fabric_tables.h"
#include "sim/profile.h"
#include "tests/sanitized.h"

namespace steploom {

inline Profile with_gaps(Profile p) {
  if (p.gaps == Gaps{}) p.gaps = {1.5, 3, 5, "assumed in tests"};
  return p;
}

struct World {
  World(const std::string& model_name, int nodes, std::int64_t seq, std::int64_t batch,
        const std::string& runtime_name = "megatron-core",
        const std::string& cluster_name = "h100-sxm-80gb")
      : World(load_model(model_name), nodes, seq, batch, runtime_name, cluster_name) {}

  World(ModelSpec m, int nodes, std::int64_t seq, std::int64_t batch,
        const std::string& runtime_name = "megatron-core",
        const std::string& cluster_name = "h100-sxm-80gb")
      : model(std::move(m)),
        cluster(load_cluster(cluster_name, nodes)),
        profile(with_gaps(built_in_profile(cluster_name))),
        costs(profile, cluster),
        contention(contention_of(profile, cluster)),
        setting{model, work, runtime_named(runtime_name), cluster, costs, &contention},
        cache(costs) {
    work.seq_length = seq;
    work.global_batch = batch;
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Layout layout(const std::string& text) const {
    return parse_layout(text, cluster.devices(), model.has_moe());
  }

  ModelSpec model;
  Workload work;
  Cluster cluster;
  Profile profile;
  CostModel costs;
  Contention contention;
  Setting setting;
  CostCache cache;
};

// A small model with everything in it: a dense first layer, experts, a shared expert.
inline ModelSpec small_moe(int layers = 4) {
  ModelSpec m;
  m.name = "small-moe";
  m.family = "test";
  m.hidden = 1024;
  m.layers = layers;
  m.vocab = 32000;
  m.max_positions = 4096;
  m.attention.heads = 16;
  m.attention.kv_heads = 8;
  m.attention.head_dim = 64;
  m.attention.v_head_dim = 64;
  m.dense.width = 4096;
  MoeSpec moe;
  moe.experts = 8;
  moe.top_k = 2;
  moe.expert.width = 2048;
  moe.shared_width = 2048;
  m.moe = moe;
  m.layer_is_moe.assign(static_cast<std::size_t>(layers), true);
  m.layer_is_moe[0] = false;
  return m;
}

// The same with windows in every other layer, a gated shared expert and a module that predicts a
// further token.
inline ModelSpec small_everything() {
  ModelSpec m = small_moe();
  m.name = "small-everything";
  m.attention.window = 200;
  m.layer_is_local = {true, false, true, false};
  m.moe->shared_gate = true;
  m.mtp_modules = 1;
  return m;
}

}  // namespace steploom
