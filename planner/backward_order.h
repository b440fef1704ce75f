// A backward graph in other issue orders: what each would take, and the graph that it makes.
//
// Passes that move operators ask here. Times are those of the block alone, from its first operator:
// streams run in issue order, an operator waits for what it reads, collectives take their time as
// soon as they start. Where SMs are counted, a collective that finds a kernel on them starts at
// that kernel's end, as a replay with contention has it: so the first weight gradient behind a
// launch holds the collective up. The host, links and how kernels slow each other are left to the
// replay. A gradient collective waits for every operator that adds to what it reduces, not for the
// last in the old order.
//
// Operators that only gradients wait for may move: kernels of phase weight_grad that no other
// kernel needs. Everything else keeps its order.
#pragma once

#include <array>
#include <vector>

#include "models/op_graph.h"
#include "planner/block.h"
#include "planner/setting.h"

namespace steploom {

// A collective over replicas of parameters, in the backward pass.
bool reduces_gradients(const OpNode& node);

struct TimedOp {
  Picoseconds time = 0;     // alone
  Picoseconds gap = 0;      // after the operator before it in its stream, at least
  Picoseconds latency = 0;  // after what it waits for on another stream, at least
  std::size_t stream = 0;   // StreamKind
  int sms = 0;              // that it wants; a collective: its CTAs
  bool communicates = false;
  bool reduces = false;     // a gradient collective
  bool movable = false;     // a weight gradient
  std::vector<OpId> after;  // what it waits for, ascending, each once
  OpId least_writer = 0;    // movable: the first later operator that overwrites what it reads, or n
};

struct TimedGraph {
  std::vector<TimedOp> ops;       // in the old issue order
  int sms = 0;                    // of the device; 0: they are not counted
  bool waits_for_issued = false;  // Runtime::collective_waits_for_issued
};

// Counts SMs where the setting knows contention.
TimedGraph timed(const OpGraph& graph, const std::vector<Tensor>& tensors, const Setting& setting,
                 const Layout& layout, const GroupShapes& shapes, CostCache& costs);

struct OrderTimes {
  std::vector<Picoseconds> start, end;  // by operator
  std::array<Picoseconds, kStreamKinds> stream_end{};
  Picoseconds computed() const { return stream_end[static_cast<std::size_t>(StreamKind::compute)]; }
  Picoseconds all() const;  // every stream
};

// `order`: all operators, each behind what it waits for.
OrderTimes times_of(const TimedGraph& graph, const std::vector<OpId>& order);

// The same with movable operators and gradient collectives beside their streams, each as soon as
// what it waits for is there: no order has any operator end earlier.
OrderTimes earliest(const TimedGraph& graph);

// No order takes less: to the end of compute, and of everything.
struct OrderBound {
  Picoseconds computed = 0;
  Picoseconds all = 0;
};
OrderBound bound_of(const TimedGraph& graph, const OrderTimes& earliest);

// Where an operator is issued: at so many times its old number, between two others at what lies
// between theirs.
using IssueKey = std::int64_t;
inline constexpr IssueKey kIssueStep = IssueKey{1} << 40;
inline IssueKey issue_before(OpId id, IssueKey rank = 0) {
  return id * kIssueStep - kIssueStep / 2 + rank;
}
inline IssueKey issue_after(OpId id) {
  return id * kIssueStep + 1;
}
std::vector<IssueKey> keys_of(const TimedGraph& graph);  // of the old order
// By key, equal ones by old number; gradient collectives that something is missing for come as soon
// as it is issued.
std::vector<OpId> order_of(const TimedGraph& graph, const std::vector<IssueKey>& keys);

// The most bytes of micro-batch tensors at once, in issue order, over what lay there before.
Bytes peak_of(const OpGraph& graph, const std::vector<Tensor>& tensors,
              const std::vector<OpId>& order);

OpGraph reordered(const OpGraph& graph, const TimedGraph& times, const std::vector<OpId>& order);

}  // namespace steploom
