// The first rung of the costing ladder: a closed-form lower bound on a step, in microseconds.
//
// A layer's forward (backward) span is the longest path from the start of its first operator on the
// compute stream to the end of its last, on the best shapes its groups can have; its passage is the
// longest path from its input's arrival to its output. On one device the compute stream runs spans
// one after another, so with F_s and B_s the spans, f_s and b_s the passages summed over stage s,
// and m micro-batches
//
//   T >= max_s ( Σ_{i<s} f_i + m·(F_s + B_s) + Σ_{i<s} b_i ) + optimizer of stage 0:
//
// stage s cannot start before the first micro-batch has passed the stages before it, nor stage 0
// its optimizer before the last gradient has come back. A rank with several chunks runs the spans
// of all of them, from the first micro-batch on its first chunk to the last gradient of that chunk.
// Likewise the memory of a rank is never less than its fixed part plus what the micro-batches in
// flight leave for their backward passes, in the order of its slots (1F1B: min(p − s, m) of them).
#pragma once

#include <array>
#include <compare>
#include <map>
#include <optional>

#include "models/chunk_builder.h"
#include "models/layout.h"
#include "planner/setting.h"
#include "sim/cost_cache.h"

namespace steploom {

struct Bound {
  Picoseconds step = 0;  // no replay of this layout is shorter
  Bytes memory = 0;      // no device of the worst stage peaks lower
};

// Remembers the parts of layouts; one per thread. `costs` must belong to setting.costs.
class BoundModel {
 public:
  BoundModel(const Setting& setting, CostCache& costs) : s_(setting), costs_(costs) {}
  Bound bound(const Layout& layout);

 private:
  enum class Part : int {
    layer,         // whole: where modules of it are run again
    attention,     // its two halves otherwise
    feed_forward,  //
    embedding,
    head  // with what predicts further tokens
  };
  // What sets layers apart.
  struct Kind {
    bool experts = false;
    bool local = false;  // a window
    auto operator<=>(const Kind&) const = default;
  };
  // What a digest depends on.
  struct Key {
    Part part;
    Kind kind;
    std::int64_t tokens = 0;  // of a rank, where the layout's cp and micro-batch say no more
    Layout layout;
    auto operator<=>(const Key&) const = default;
  };
  Kind kind_of(int layer) const { return {s_.model.is_moe(layer), s_.model.is_local(layer)}; }
  struct Digest {
    Picoseconds forward = 0;  // spans
    Picoseconds backward = 0;
    Picoseconds forward_passage = 0;
    Picoseconds backward_passage = 0;
    Bytes saved = 0;  // micro-batch tensors that the backward pass reads
  };
  const Digest& digest(Part part, Kind kind, const Layout& layout);
  Digest measure(Part part, Kind kind, const Layout& layout);
  Digest layer(Kind kind, const Layout& layout);
  Digest layers(const Layout& layout, int first, int count);
  Digest chunk(const Layout& layout, const StageSpan& span);
  Picoseconds optimizer(const Layout& layout);
  Picoseconds sharded_load(const Layout& layout);

  const Setting& s_;
  CostCache& costs_;
  std::map<Key, Digest> known_;
  std::array<std::optional<Digest>, 4> layer_;  // by kind, of the layout at hand
};

}  // namespace steploom
