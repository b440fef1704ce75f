// Ranks and process groups of a layout, as Megatron-Core numbers them.
//
// Rank order tp-cp-dp-pp for dense groups and etp-ep-expert_dp-pp for expert groups, first fastest;
// a dense parameter has replicas on all of cp and dp;
// both share the pipeline index. Rank r sits on device r of the cluster, node after node.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "models/layout.h"
#include "models/model_spec.h"
#include "models/op_graph.h"
#include "sim/cluster.h"
#include "sim/fold.h"

namespace steploom {

struct ProcessGroup {
  CommGroup kind = CommGroup::none;  // pp_forward_out and pp_backward_out name a pair by its sender
  std::vector<int> ranks;            // ascending; pairs: sender, receiver
  GroupShape shape;
};

struct RankTable {
  std::vector<int> stage;                                       // by rank
  std::vector<ProcessGroup> groups;                             // of two ranks or more
  std::vector<std::array<std::int32_t, kCommGroups>> group_of;  // rank -> role -> group, or -1
};

RankTable rank_table(const ModelSpec& m, const Layout& l, const Cluster& c);

// The shape of one group alone, without a table: what the closed-form bound needs. Groups of tp,
// etp and ep start at a multiple of their size, so their shape depends on nothing else.
GroupShape strided_shape(const Cluster& c, int first, int stride, int count);

}  // namespace steploom
