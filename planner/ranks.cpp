#include "planner/ranks.h"

#include <algorithm>
#include <numeric>

namespace steploom {
namespace {

class Builder {
 public:
  Builder(const Layout& l, const Cluster& c, RankTable& table)
      : layout_(l), cluster_(c), table_(table) {
    const auto world = static_cast<std::size_t>(l.devices());
    table_.stage.resize(world);
    table_.group_of.resize(world);
    for (auto& roles : table_.group_of) roles.fill(-1);
  }

  void add(CommGroup kind, std::vector<int> ranks) {
    if (ranks.size() < 2) return;
    const auto role = static_cast<std::size_t>(kind);
    for (const int r : ranks) member(r, role);
    push(kind, std::move(ranks), role, role);
  }

  // Messages of a chunk: activations from rank to rank, gradients the other way.
  void add_pairs(int chunk, int from, int to) {
    add_pair(chunk, CommGroup::pp_forward_out, CommGroup::pp_forward_in, from, to);
    add_pair(chunk, CommGroup::pp_backward_out, CommGroup::pp_backward_in, to, from);
  }

 private:
  void add_pair(int chunk, CommGroup out, CommGroup in, int from, int to) {
    const std::size_t sends = role_of(out, layout_, chunk), receives = role_of(in, layout_, chunk);
    member(from, sends);
    member(to, receives);
    push(out, {from, to}, sends, receives);
  }
  void member(int rank, std::size_t role) {
    table_.group_of[static_cast<std::size_t>(rank)][role] =
        static_cast<std::int32_t>(table_.groups.size());
  }
  void push(CommGroup kind, std::vector<int> ranks, std::size_t role, std::size_t receives) {
    const GroupShape shape = shape_of(cluster_, ranks);
    table_.groups.push_back({kind, std::move(ranks), shape, role, receives});
  }

  const Layout& layout_;
  const Cluster& cluster_;
  RankTable& table_;
};

std::vector<int> strided(int first, int stride, int count) {
  std::vector<int> ranks(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) ranks[static_cast<std::size_t>(i)] = first + i * stride;
  return ranks;
}

// The replicas of each of `inner` neighbours: `shards` in turn hold one copy of what is sharded,
// the same shards of all copies form the outer groups.
void add_replicas(Builder& out, std::array<CommGroup, 2> kinds, int base, int inner, int shards,
                  int copies) {
  for (int i = 0; i < inner; ++i) {
    for (int copy = 0; copy < copies; ++copy)
      out.add(kinds[0], strided(base + i + copy * shards * inner, inner, shards));
    for (int shard = 0; shard < shards; ++shard)
      out.add(kinds[1], strided(base + i + shard * inner, shards * inner, copies));
  }
}

}  // namespace

RankTable rank_table(const ModelSpec& m, const Layout& l, const Cluster& c) {
  RankTable table;
  Builder out(l, c, table);
  const int replicas = l.dp_cp();
  const int per_stage = l.tp * replicas;
  for (int s = 0; s < l.pp; ++s) {
    const int base = s * per_stage;
    std::fill_n(table.stage.begin() + base, per_stage, s);
    for (int d = 0; d < replicas; ++d) out.add(CommGroup::tp, strided(base + d * l.tp, 1, l.tp));
    for (int d = 0; d < l.dp; ++d)
      for (int t = 0; t < l.tp; ++t)
        out.add(CommGroup::cp, strided(base + d * l.cp * l.tp + t, l.tp, l.cp));
    add_replicas(out, {CommGroup::dp, CommGroup::dp_outer}, base, l.tp, l.dp_shards(), l.replicate);
    if (m.has_moe()) {
      const int inner = l.etp * l.ep;
      for (int x = 0; x < l.expert_dp(); ++x) {
        const int at = base + x * inner;
        for (int e = 0; e < l.ep; ++e) out.add(CommGroup::etp, strided(at + e * l.etp, 1, l.etp));
        for (int t = 0; t < l.etp; ++t) out.add(CommGroup::ep, strided(at + t, l.etp, l.ep));
      }
      add_replicas(out, {CommGroup::expert_dp, CommGroup::expert_dp_outer}, base, inner,
                   l.expert_shards(), l.replicate);
    }
    // Interleaved, the last rank's chunks go on in the first rank's next ones; in a V they turn.
    const bool v = in_a_v(l.schedule);
    const int next = (s + 1) % l.pp * per_stage;
    if (s + 1 < l.pp || (l.vpp > 1 && !v))
      for (int i = 0; i < per_stage; ++i) {
        out.add_pairs(0, base + i, next + i);
        if (v) out.add_pairs(1, next + i, base + i);
      }
  }
  if (m.embedding_at_both_ends() && l.pp > 1 && !in_a_v(l.schedule))
    for (int i = 0; i < per_stage; ++i)
      out.add(CommGroup::embedding, {i, (l.pp - 1) * per_stage + i});
  out.add(CommGroup::world, strided(0, 1, l.devices()));
  return table;
}

GroupShape strided_shape(const Cluster& c, int first, int stride, int count) {
  return shape_of(c, strided(first, stride, count));
}

}  // namespace steploom
