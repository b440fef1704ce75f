// Plain attention in double precision, for checks: one row of a result at a time, from the very
// tensors that a kernel read.
//
// Every element comes with its noise: the size that differences have when each of its terms, and
// each head's part of a sum over heads, is rounded once with relative error 1.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/attention.h"

namespace steploom {

struct ReferenceRow {
  std::vector<double> values;
  std::vector<double> noise;
};

// A row of results: token `token` (within its sequence) of head `head` (of q, k or v as the result
// is theirs) of sequence `sequence`.
struct AttentionRow {
  std::int64_t sequence = 0, head = 0, token = 0;
};

struct ReferenceForward {
  ReferenceRow out;
  double lse = 0;
};

class AttentionReference {
 public:
  AttentionReference(const AttentionShape& shape, const AttentionLayout& layout,
                     const AttentionTensors& tensors)
      : shape_(shape), at_(layout), t_(tensors) {}

  ReferenceForward forward(const AttentionRow& row) const;
  // The gradients take out and lse as they are.
  ReferenceRow dq(const AttentionRow& row) const;
  void dkv(const AttentionRow& row, ReferenceRow& dk, ReferenceRow& dv) const;

 private:
  using Heads = AttentionLayout::Heads;
  const Bf16* row_of(const Bf16* x, const Heads& at, const AttentionRow& row) const {
    return x + (row.sequence * shape_.sequence + row.token) * at.row + row.head * at.head;
  }
  double scale() const;

  AttentionShape shape_;
  AttentionLayout at_;
  AttentionTensors t_;
};

}  // namespace steploom
