// Remembers the costs of shapes: layers repeat, and so do candidates of a search.
//
// A cache belongs to one thread and one CostModel; its answers are those of the model, so sharing
// or not sharing never changes a result. Where a cluster has several types of device, each with a
// CostModel of its own, one cache leads to those of the others.
#pragma once

#include <cstddef>
#include <list>
#include <unordered_map>

#include "sim/cost_model.h"

namespace steploom {

class CostCache {
 public:
  explicit CostCache(const CostModel& model) : model_(model) {}
  const Cost& cost(const CostQuery& query);

  // The cache of another model, which must outlive this: kept with this one, itself of its own.
  CostCache& of(const CostModel& model);

 private:
  struct Hash {
    std::size_t operator()(const CostQuery& q) const;
  };
  struct Equal {
    bool operator()(const CostQuery& a, const CostQuery& b) const;
  };
  const CostModel& model_;
  std::unordered_map<CostQuery, Cost, Hash, Equal> known_;
  std::list<CostCache> others_;
};

}  // namespace steploom
