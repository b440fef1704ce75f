#include "sim/cost_cache.h"

#include <bit>
#include <cstdint>
#include <tuple>

namespace steploom {
namespace {

auto key(const CostQuery& q) {
  const Work& w = q.work;
  return std::tuple(w.kind, w.phase, w.precision, w.m, w.n, w.k, w.groups, w.heads, w.kv_heads,
                    w.head_dim, w.v_head_dim, w.window, w.chunked, w.both_ways, w.keys, w.bytes,
                    w.exchange, w.node_limit, w.fresh, std::bit_cast<std::uint64_t>(w.elementwise),
                    std::bit_cast<std::uint64_t>(w.skew), q.group.ranks, q.group.nodes,
                    q.group.ranks_per_node, q.ctas, q.parts, q.inside);
}

}  // namespace

std::size_t CostCache::Hash::operator()(const CostQuery& q) const {
  std::uint64_t h = 14695981039346656037ULL;  // FNV-1a over the words of the key
  std::apply(
      [&h](const auto&... part) {
        ((h = (h ^ static_cast<std::uint64_t>(part)) * 1099511628211ULL), ...);
      },
      key(q));
  return h ^ (h >> 29);
}

bool CostCache::Equal::operator()(const CostQuery& a, const CostQuery& b) const {
  return key(a) == key(b);
}

const Cost& CostCache::cost(const CostQuery& query) {
  const auto it = known_.find(query);
  if (it != known_.end()) return it->second;
  return known_.emplace(query, model_.cost(query)).first->second;
}

CostCache& CostCache::of(const CostModel& model) {
  if (&model == &model_) return *this;
  for (CostCache& other : others_)
    if (&model == &other.model_) return other;
  return others_.emplace_back(model);
}

}  // namespace steploom
