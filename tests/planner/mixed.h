// A setting of several types of device for planner tests: groups of nodes, each a built-in
// cluster's.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "planner/costed_cluster.h"
#include "tests/planner/planning.h"

namespace steploom {

struct GroupOf {
  const char* cluster;  // built in: its device and links
  int nodes = 1;
};

inline Cluster mixed_cluster(const std::vector<GroupOf>& groups, int per_node) {
  Cluster out = load_cluster(groups.front().cluster, 1);
  out.name = "mixed";
  out.nodes = 0;
  for (const GroupOf& g : groups) {
    const Cluster own = load_cluster(g.cluster, 1);
    out.groups.push_back({own.device, g.nodes, own.nvlink, own.nic});
    out.nodes += g.nodes;
  }
  use_gpus(out, per_node);
  return out;
}

struct MixedWorld {
  MixedWorld(ModelSpec m, Cluster c, std::int64_t seq, std::int64_t batch,
             const std::string& runtime = "megatron-core", Precision precision = Precision::bf16)
      : model(std::move(m)),
        cluster(std::move(c)),
        profiles(profiles_of(cluster)),
        costed(cluster, profiles),
        work{seq, batch, precision},
        setting(costed.setting(model, work, runtime_named(runtime))),
        cache(setting.costs) {}
  MixedWorld(const MixedWorld&) = delete;
  MixedWorld& operator=(const MixedWorld&) = delete;

  static std::vector<Profile> profiles_of(const Cluster& cluster) {
    std::vector<Profile> out;
    for (const DeviceType& d : cluster.device_types())
      out.push_back(with_gaps(built_in_profile(d.name)));
    return out;
  }
  Layout layout(const std::string& text) const {
    return parse_layout(text, cluster.devices(), model.has_moe());
  }

  ModelSpec model;
  Cluster cluster;
  std::vector<Profile> profiles;
  CostedCluster costed;
  Workload work;
  Setting setting;
  CostCache cache;
};

// A dense model whose steps are matrix products for the most part.
inline ModelSpec dense_model(int layers) {
  ModelSpec m = small_moe(layers);
  m.name = "dense";
  m.moe.reset();
  m.layer_is_moe.assign(static_cast<std::size_t>(layers), false);
  m.hidden = 4096;
  m.attention.heads = 32;
  m.attention.kv_heads = 8;
  m.attention.head_dim = m.attention.v_head_dim = 128;
  m.dense.width = 11008;
  m.max_positions = 4096;
  return m;
}

}  // namespace steploom
