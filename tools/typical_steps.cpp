#include "tools/typical_steps.h"

#include <cassert>

#include "models/config_reader.h"
#include "models/layout_rules.h"
#include "models/runtime.h"
#include "planner/lower.h"
#include "profiler/profile_of_points.h"

namespace steploom {
namespace {

struct Step {
  const char* model;
  const char* layout;
  std::int64_t seq_length;
  std::int64_t global_batch;
};

// A mixture of experts, a small and a large dense model, as they are commonly trained.
constexpr Step kSteps[] = {
    {"mixtral-8x7b", "tp=2,pp=1,ep=8,etp=1,mbs=2,sp=1,zero=1", 4096, 256},
    {"llama-3.1-8b", "tp=2,pp=1,mbs=1,sp=1,zero=1", 8192, 128},
    {"llama-3.1-70b", "tp=8,pp=2,mbs=1,sp=1,zero=1", 8192, 128},
};
constexpr int kNodes = 8;

}  // namespace

ByClass typical_shares(const Profile& profile) {
  Cluster cluster = cluster_for(profile);
  cluster.nodes = kNodes;
  const CostModel costs(profile, cluster);
  const Runtime& runtime = runtime_named("megatron-core");
  ByClass sum;
  for (const Step& step : kSteps) {
    const ModelSpec model = load_model(step.model);
    Workload work;
    work.seq_length = step.seq_length;
    work.global_batch = step.global_batch;
    const Layout layout = parse_layout(step.layout, cluster.devices(), model.has_moe());
    assert(!refuse({model, work, layout, cluster.devices()}));
    const Setting setting{model, work, runtime, cluster, costs};
    CostCache cache(costs);
    ByClass time;
    add_kernel_time(lower(setting, layout, cache).program, time);
    for (const auto& [c, share] : shares_of(time)) sum[c] += share;
  }
  return shares_of(sum);
}

}  // namespace steploom
