#include "sim/profile_points.h"

#include "sim/operator_bytes.h"

namespace steploom {

PointKey point_key(const Work& w) {
  PointKey key{static_cast<std::int64_t>(w.kind), static_cast<std::int64_t>(w.phase), w.m};
  switch (class_of(w.kind)) {
    case OpClass::matmul:
    case OpClass::grouped_matmul:
      key[3] = w.n;
      key[4] = w.k;
      key[5] = w.groups;
      break;
    case OpClass::attention:
      key[3] = w.n;
      key[4] = w.heads;
      key[5] = w.kv_heads;
      key[6] = w.head_dim;
      key[7] = w.v_head_dim;
      break;
    default:
      key[3] = operator_bytes(w);
      if (w.kind == OpKind::router || w.kind == OpKind::permute || w.kind == OpKind::norm)
        key[4] = w.k;
  }
  return key;
}

PointIndex::PointIndex(const std::vector<KernelPoint>& points) {
  by_key_.reserve(points.size());
  for (const KernelPoint& p : points) by_key_.emplace(point_key(p.work), &p);
}

std::size_t PointIndex::Hash::operator()(const PointKey& key) const {
  std::uint64_t h = 14695981039346656037ULL;  // FNV-1a over the words of the key
  for (const std::int64_t part : key) h = (h ^ static_cast<std::uint64_t>(part)) * 1099511628211ULL;
  return h ^ (h >> 29);
}

const KernelPoint* PointIndex::find(const Work& work) const {
  if (by_key_.empty() || is_masked_otherwise(work)) return nullptr;
  const auto found = by_key_.find(point_key(work));
  return found == by_key_.end() ? nullptr : found->second;
}

}  // namespace steploom
