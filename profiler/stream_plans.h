// What the calls on one stream need beyond their operands: planned products and attentions, the
// libraries' handles, and scratch memory.
//
// A stream's calls run one after the other, so they share one scratch and one workspace. plan() is
// told of every call beforehand; what was not planned is a fault of ours. Experts' products are one
// strided batch: equal rows an expert, and of the ways that were measured the fastest or within
// 5 % of it (profiler/data, grouped_matmul, cublaslt-padded).
#pragma once

#include <compare>
#include <map>
#include <memory>

#include "profiler/attention.h"
#include "profiler/buffer.h"
#include "profiler/kernel_calls.h"
#include "profiler/products.h"

namespace steploom {

struct PlanChoices {
  int algorithm = 0;  // ProductOptions::choice
  AttentionOrder attention = AttentionOrder::any;
};

class StreamPlans {
 public:
  void plan(const KernelCall& call, const PlanChoices& choices);
  void allocate();  // after the last plan()

  struct ProductKey {
    Phase phase = Phase::forward;
    LinearShape shape;
    bool bias = false;
    auto operator<=>(const ProductKey&) const = default;
  };
  struct AttentionKey {
    Phase phase = Phase::forward;
    AttentionSizes sizes;
    bool operator<(const AttentionKey& other) const;
  };
  const Product& product(const ProductKey& key) const { return products_.at(key); }
  const AttentionPlan& attention(const AttentionKey& key) const { return attentions_.at(key); }
  void* scratch() const { return scratch_.data(); }
  Bytes bytes() const;  // workspaces and scratch

  static ProductKey key_of(const Linear& call);
  static ProductKey key_of(const ExpertLinear& call);

 private:
  void add(const ProductKey& key, const PlanChoices& choices);
  void add(const AttentionKey& key, const PlanChoices& choices);
  void need_scratch(Bytes bytes);

  std::unique_ptr<Blas> blas_;
  std::unique_ptr<Dnn> dnn_;
  std::map<ProductKey, Product> products_;
  std::map<AttentionKey, AttentionPlan> attentions_;
  Bytes scratch_bytes_ = 0;
  DeviceBuffer scratch_;
};

AttentionShape shape_of(const AttentionSizes& sizes);

}  // namespace steploom
