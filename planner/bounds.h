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
// Where backward passes are split, a stage runs m·(F_s + B_s + W_s), and what follows its last slot
// may be nothing: b_i are left out, and the optimizer counts on stage 0 alone.
// Where the profile knows the device's clock (sim/step_clock.h) a bound is sought for every clock
// of stage s, and the least of them holds. Its spans and optimizer then are tangents: a longest
// path never falls below the tangent of its length over 1/clock. Passages of others count at their
// fastest. And in T the stage draws no more than its limit, so what its operators draw above idle,
// over what the limit leaves for that, is a bound of T too.
//
// Where weight gradients are placed (Layout::dw) those of one layer fill the gaps of another: B_s
// then is without them, and a second T has the time of all of a backward pass's kernels in its
// place, as T has where some backward passes are in two parts (mixes_backward). Where passes are
// woven (Layout::weave) what lies between two exchanges still runs in one go: in pairs, T has the
// spans of these segments in place of those of passes, or those of one of a pair's passes; and a
// further T has all of a stage's exchanges. Where
// ranges of the forward pass run in parts (Layout::partition) F_s and f_s are the time of their
// kernels, whole or in parts, whichever is less.
//
// Where the cluster has several types of device, the ranks of one place in every stage, which send
// each other their messages, are a *column*: T holds for each, with each stage costed on its device
// there, and for the longest of them.
//
// Likewise the memory of a rank is never less than its fixed part plus what the micro-batches in
// flight leave for their backward passes, in the order of its slots (1F1B: min(p − s, m) of them).
#pragma once

#include <array>
#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "models/chunk_builder.h"
#include "models/layout.h"
#include "planner/block.h"
#include "planner/setting.h"
#include "sim/cost_cache.h"

namespace steploom {

struct Bound {
  Picoseconds step = 0;  // no replay of this layout is shorter
  Bytes memory = 0;      // no device of the worst stage peaks lower
  Bytes limit = 0;       // memory of that stage's device

  bool may_fit() const { return memory <= limit; }
};

// A length of time at whatever clock, from below: the tangents at two clocks, one at which kernels
// are far from their fastest and the most that there is. Additive, and zero.
struct ClockedTime {
  std::array<Picoseconds, 2> time{};  // at the two clocks
  std::array<double, 2> cycles{};     // of it, what the clock drives: picoseconds times MHz

  void add(const ClockedTime& other, double times = 1);
};

// What is drawn above idle, from below, microjoules.
struct ClockedEnergy {
  double fixed = 0;
  double moving = 0;  // at the most that there is of clock
  double scaled = 0;  // over 1 MHz to the law's exponent less 1

  void add(const ClockedEnergy& other, double times = 1);
};

// Remembers the parts of layouts; one per thread. `costs` must belong to setting.costs.
class BoundModel {
 public:
  BoundModel(const Setting& setting, CostCache& costs);
  BoundModel(const BoundModel&) = delete;
  BoundModel& operator=(const BoundModel&) = delete;
  Bound bound(const Layout& layout);
  // All that a bound knows of a partition: the same for all ranges.
  static Partition known_by(const Partition& partition);

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
    ClockedTime forward, backward;  // spans; backward without weight gradients that are placed
    ClockedTime forward_load, backward_load;
    ClockedTime forward_segments, backward_segments;  // where passes are woven
    ClockedTime weight;         // where the schedule has weight gradients apart
    Picoseconds exchanges = 0;  // of both passes' experts
    ClockedEnergy forward_energy, backward_energy;
    Picoseconds forward_passage = 0;
    Picoseconds backward_passage = 0;
    Bytes saved = 0;  // micro-batch tensors that the backward pass reads

    void add(const Digest& other, std::int64_t times = 1);
  };
  // The models of a column's devices, by pipeline rank.
  using Column = std::vector<BoundModel*>;
  std::vector<Column> columns(const Layout& layout);
  Bound bound_of(const Layout& layout, const Column& column);
  void bound_routed(Block& block, const Layout& layout, const GroupShapes& shapes);
  const Digest& digest(Part part, Kind kind, const Layout& layout);
  Digest measure(Part part, Kind kind, const Layout& layout);
  Digest layer(Kind kind, const Layout& layout);
  Digest layers(const Layout& layout, int first, int count);
  Digest chunk(const Layout& layout, const StageSpan& span);
  // Adds its kernels.
  void optimizer(const Layout& layout, Digest& sum);
  ClockedTime load_of(const Block& block) const;  // of the compute stream
  void least_in_parts(Block& block, const OpGraph& graph, const Layout& layout,
                      const GroupShapes& shapes);
  ClockedTime longest_from(const Block& block, StreamKind from, std::uint32_t first = 0,
                           std::uint32_t last = ~std::uint32_t{0}) const;
  ClockedTime segments_of(const Block& block) const;
  ClockedEnergy energy_of(const OpTemplate& op) const;
  ClockedEnergy energy_of(const Block& block) const;
  Picoseconds least(Picoseconds before, const ClockedTime& time, const ClockedEnergy& energy) const;
  Picoseconds sharded_load(const Layout& layout);
  Picoseconds offload_load(const Layout& layout);

  const Setting s_;
  CostCache& costs_;
  std::vector<std::unique_ptr<BoundModel>> of_type_;  // where there are several
  std::vector<BoundModel*> types_;                    // of the whole cluster, in a type's own model
  std::vector<int> boundaries_;                       // devices at which the type changes, likewise
  ClockLaw law_;
  int slow_mhz_ = 0;           // the lower clock of tangents
  std::vector<double> power_;  // by MHz: to the exponent less 1
  std::map<Key, Digest> known_;
  std::array<std::optional<Digest>, 4> layer_;  // by kind, of the layout at hand
};

}  // namespace steploom
