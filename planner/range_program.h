// Which ranges of a forward pass to cut, and in how many parts: Lancet's dynamic program (arXiv
// 2404.19429, section 5.2), with its knobs and its model of time.
//
//   T(n) = min over i < n of T(i) + min over k of P(i, n, k)
//
// P: how long the operators (i, n] take in k parts on two queues, computation and communication,
// each in the order (stage, part), where a stage is a longest run of operators of one queue; an
// operator starts when its queue and what it reads are done. Nothing else is in it: no other
// collectives beside, no slow-down of what runs together, no time of the host. Replays have those.
// i and n are at borders of groups, runs of operators that take about a fifth of the time between
// two layers' exchanges, or at an exchange; a range is no longer than the operators between two
// exchanges, and is cut only if it holds one and infer_axes() allows it.
#pragma once

#include <functional>
#include <vector>

#include "models/op_graph.h"
#include "planner/partition_axes.h"

namespace steploom {

// Operators [first, last) in so many parts.
struct CutRange {
  OpId first = 0, last = 0;
  int parts = 2;
  bool operator==(const CutRange&) const = default;
};

struct RangeProgram {
  int most_parts = 8;  // K; every number from 2 on is tried
  int groups = 5;      // between two layers' exchanges
};

// One of so many equal parts of an operator.
using PartTime = std::function<Picoseconds(const OpNode& node, int parts)>;

// The stage of every operator of a range, from 0: computation and communication take turns. Those
// that run whole count as part of the stage they stand in.
std::vector<int> stages_of(const OpGraph& graph, OpId first, OpId last);

// P of the operators [first, last).
Picoseconds range_time(const OpGraph& forward, const CutRange& range, const PartTime& time);

struct RangeChoice {
  std::vector<CutRange> ranges;  // ascending, disjoint
  Picoseconds time = 0;          // T of the whole pass
};

// `rules.parts` is not looked at.
RangeChoice choose_ranges(const OpGraph& forward, const PartRules& rules,
                          const RangeProgram& options, const PartTime& time);

}  // namespace steploom
