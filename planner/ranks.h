// Ranks and process groups of a layout, as Megatron-Core numbers them.
//
// Rank order tp-cp-dp-pp for dense groups and etp-ep-expert_dp-pp for expert groups, first fastest;
// a dense parameter has replicas on all of cp and dp;
// both share the pipeline index. Rank r sits on device r of the cluster, node after node.
//
// A rank takes part in a group by role: roles are the values of CommGroup, and four more for the
// messages of stages that go up the ranks again (in_a_v): pairs of their own, because the order
// among them and those that go down differs between sender and receiver.
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

inline constexpr std::size_t kRoles = kCommGroups + 4;

// The role of a rank's `chunk` for a group's operators.
inline std::size_t role_of(CommGroup group, const Layout& l, int chunk) {
  const auto role = static_cast<std::size_t>(group);
  const bool message = group >= CommGroup::pp_forward_in && group <= CommGroup::pp_backward_out;
  if (!message || chunk == 0 || !in_a_v(l.schedule)) return role;
  return kCommGroups + role - static_cast<std::size_t>(CommGroup::pp_forward_in);
}

struct ProcessGroup {
  CommGroup kind = CommGroup::none;  // pp_forward_out and pp_backward_out name a pair by its sender
  std::vector<int> ranks;            // ascending; pairs: sender, receiver
  GroupShape shape;
  std::size_t role = 0;           // of its members; of a pair's sender
  std::size_t receiver_role = 0;  // of a pair's receiver; else as role
};

struct RankTable {
  std::vector<int> stage;                                  // by rank
  std::vector<ProcessGroup> groups;                        // of two ranks or more
  std::vector<std::array<std::int32_t, kRoles>> group_of;  // rank -> role -> group, or -1
};

RankTable rank_table(const ModelSpec& m, const Layout& l, const Cluster& c);

// The shape of one group alone, without a table: what the closed-form bound needs. Groups of tp,
// etp and ep start at a multiple of their size, so their shape depends on nothing else.
GroupShape strided_shape(const Cluster& c, int first, int stride, int count);

}  // namespace steploom
