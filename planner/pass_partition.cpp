#include "planner/pass_partition.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <string_view>
#include <utility>

#include "models/operands.h"
#include "models/shapes.h"

namespace steploom {
namespace {

constexpr std::uint32_t kNone = ~std::uint32_t{0};

template <class Node>
bool is_exchange(const Node& node) {
  return node.group == CommGroup::ep && node.work.kind == OpKind::all_to_all;
}

// Where tensors lie in the table with slices, and how many each has.
struct Slicing {
  std::vector<int> slices;           // by old number; 1: none
  std::vector<TensorId> new_number;  // of the whole

  TensorId of(TensorId t) const { return new_number[t]; }
};

Slicing slicing_of(const std::vector<Tensor>& table, std::vector<int> slices) {
  Slicing s{std::move(slices), {}};
  TensorId next = 0;
  for (TensorId t = 0; t < table.size(); ++t) {
    s.new_number.push_back(next++);
    if (s.slices[t] > 1) {
      assert(table[t].whole == kNoTensor && (t + 1 == table.size() || table[t + 1].whole != t));
      next += static_cast<TensorId>(s.slices[t]);
    }
  }
  return s;
}

std::vector<Tensor> sliced_table(const std::vector<Tensor>& table, const Slicing& s) {
  std::vector<Tensor> out;
  for (TensorId t = 0; t < table.size(); ++t) {
    Tensor whole = table[t];
    if (whole.whole != kNoTensor) whole.whole = s.of(whole.whole);
    const auto id = static_cast<TensorId>(out.size());
    out.push_back(whole);
    const int n = s.slices[t];
    for (int i = 0; n > 1 && i < n; ++i) {
      Tensor slice = whole;
      slice.whole = id;
      slice.offset = whole.bytes * i / n;
      slice.bytes = whole.bytes * (i + 1) / n - slice.offset;
      slice.name += " part " + std::to_string(i);
      out.push_back(std::move(slice));
    }
  }
  return out;
}

// One graph anew: its tensors renumbered, its ranges cut.
class Cutter {
 public:
  Cutter(const OpGraph& old, const Slicing& slicing, int experts)
      : old_(old),
        slicing_(slicing),
        experts_(experts),
        pieces_(old.size()),
        parts_(old.size(), 1) {}

  OpGraph run(const std::vector<CutRange>& ranges) {
    OpId next = 0;
    for (const CutRange& r : ranges) {
      for (; next < r.first; ++next) emit(next, 0, 1);
      cut(r);
      next = r.last;
    }
    for (; next < old_.size(); ++next) emit(next, 0, 1);
    return std::move(graph_);
  }

 private:
  void cut(const CutRange& r) {
    const std::vector<int> stages = stages_of(old_, r.first, r.last);
    for (OpId from = r.first; from < r.last;) {
      OpId to = from;
      while (to < r.last && stages[to - r.first] == stages[from - r.first]) ++to;
      for (int part = 0; part < r.parts; ++part)
        for (OpId op = from; op < to; ++op) {
          if (!runs_whole(old_.node(op)))
            emit(op, part, r.parts);
          else if (part == 0)
            emit(op, 0, 1);
        }
      from = to;
    }
  }

  std::vector<TensorId> renumbered(const std::vector<TensorId>& tensors, int part,
                                   int parts) const {
    std::vector<TensorId> out;
    for (const TensorId t : tensors) {
      const int n = slicing_.slices[t];
      if (parts == 1 || n == 1) {
        out.push_back(slicing_.of(t));
        continue;
      }
      for (int i = part * n / parts; i < (part + 1) * n / parts; ++i)
        out.push_back(slicing_.of(t) + 1 + static_cast<TensorId>(i));
    }
    return out;
  }

  // Does part `a` of `m` share tokens with part `b` of `n`?
  static bool overlap(int a, int m, int b, int n) {
    return a * n < (b + 1) * m && b * m < (a + 1) * n;
  }

  void emit(OpId op, int part, int parts) {
    OpNode node = old_.node(op);
    const bool first_exchange = parts > 1 && is_exchange(node) && reads_permuted(op);
    node.reads = renumbered(node.reads, part, parts);
    node.writes = renumbered(node.writes, part, parts);
    if (parts > 1) {
      node.work = part_of(node.work, parts);
      node.parts = parts;
    }
    const OpId sizes = first_exchange ? send_sizes(op, part) : kNone;
    const OpId id = graph_.add(std::move(node));
    parts_[op] = parts;
    pieces_[op].push_back(id);
    if (sizes != kNone) graph_.depend(sizes, id, kNoTensor);
    depend(op, part, parts, id);
  }

  void depend(OpId op, int part, int parts, OpId id) {
    for (const OpGraph::Edge& e : old_.predecessors(op)) {
      const bool sliced = e.tensor != kNoTensor && slicing_.slices[e.tensor] > 1;
      const TensorId tensor = e.tensor == kNoTensor ? kNoTensor : slicing_.of(e.tensor);
      for (std::size_t i = 0; i < pieces_[e.op].size(); ++i)
        if (!sliced || overlap(part, parts, static_cast<int>(i), parts_[e.op]))
          graph_.depend(pieces_[e.op][i], id, tensor);
    }
  }

  // Rows whose routing happened just before, in parts: an irregular exchange.
  bool reads_permuted(OpId exchange) const {
    for (const OpGraph::Edge& e : old_.predecessors(exchange))
      if (old_.node(e.op).work.kind == OpKind::permute && parts_[e.op] > 1 &&
          old_.node(e.op).name != kSortBySender)
        return true;
    return false;
  }

  OpId send_sizes(OpId exchange, int part) {
    const OpNode& data = old_.node(exchange);
    OpNode node;
    node.name = data.name + " sizes";
    node.work = communication(OpKind::all_to_all, Phase::forward, Bytes{4} * experts_);
    node.group = data.group;
    node.stream = data.stream;
    node.layer = data.layer;
    node.host_waits = true;
    const OpId id = graph_.add(std::move(node));
    for (const OpGraph::Edge& e : old_.predecessors(exchange))
      graph_.depend(pieces_[e.op][static_cast<std::size_t>(part)], id, kNoTensor);
    return id;
  }

  const OpGraph& old_;
  const Slicing& slicing_;
  int experts_;
  OpGraph graph_;
  std::vector<std::vector<OpId>> pieces_;  // by old operator
  std::vector<int> parts_;
};

// The same operators in a graph that has others between them that run whole.
std::vector<CutRange> moved(const std::vector<CutRange>& ranges, const OpGraph& from,
                            const OpGraph& to) {
  const auto numbers = [](const OpGraph& g) {
    std::vector<OpId> out;
    for (OpId op = 0; op < g.size(); ++op)
      if (!runs_whole(g.node(op))) out.push_back(op);
    return out;
  };
  const std::vector<OpId> old = numbers(from), now = numbers(to);
  assert(old.size() == now.size());
  const auto place = [&](OpId op) {
    const auto at = std::lower_bound(old.begin(), old.end(), op) - old.begin();
    return static_cast<std::size_t>(at);
  };
  std::vector<CutRange> out;
  for (const CutRange& r : ranges)
    out.push_back({now[place(r.first)], now[place(r.last) - 1] + 1, r.parts});
  return out;
}

// Operators in issue order: of a graph, or of a lowered block.
struct OfGraph {
  const OpGraph& graph;
  OpId size() const { return static_cast<OpId>(graph.size()); }
  const OpNode& operator[](OpId op) const { return graph.node(op); }
};
struct OfBlock {
  const std::vector<OpInfo>& infos;
  OpId size() const { return static_cast<OpId>(infos.size()); }
  const OpInfo& operator[](OpId op) const { return infos[op]; }
};

// The last operator in [from, to) that `is`, or kNone.
template <class Ops, class Is>
OpId last_that(const Ops& ops, OpId from, OpId to, const Is& is) {
  for (OpId op = to; op-- > from;)
    if (is(ops[op])) return op;
  return kNone;
}

template <class Ops>
OpId first_of_layer(const Ops& ops, int layer, std::string_view name) {
  for (OpId op = 0; op < ops.size(); ++op)
    if (ops[op].layer == layer && !runs_whole(ops[op].group) &&
        (name.empty() || ops[op].name == name))
      return op;
  return kNone;
}

template <class Ops>
std::vector<CutRange> ranges_of(const Ops& ops, const Partition& p) {
  std::vector<CutRange> out;
  for (OpId op = 0; op < ops.size(); ++op) {
    if (!is_exchange(ops[op])) continue;
    const int layer = ops[op].layer;
    const auto here = [layer](const auto& n) { return n.layer == layer && !runs_whole(n.group); };
    const OpId last = last_that(ops, op, ops.size(), here);
    const OpId combine =
        last_that(ops, op, last + 1, [&](const auto& n) { return here(n) && is_exchange(n); });
    CutRange r{op, combine + 1, p.parts};
    if (p.from == PartFrom::permute)
      r.first = last_that(ops, 0, op, [](const auto& n) { return n.work.kind == OpKind::permute; });
    if (p.from == PartFrom::gate) r.first = first_of_layer(ops, layer, kFeedForwardNorm);
    if (p.from == PartFrom::attention) r.first = first_of_layer(ops, layer, "");
    if (p.to != PartTo::combine) r.last = last + 1;
    if (p.to == PartTo::attention)
      if (const OpId sum = first_of_layer(ops, layer + 1, kAttentionSum); sum != kNone)
        r.last = sum + 1;
    if (!out.empty()) r.first = std::max(r.first, out.back().last);
    assert(r.first != kNone && r.first <= op);
    op = last;
    out.push_back(r);
  }
  return out;
}

}  // namespace

std::vector<CutRange> named_ranges(const OpGraph& g, const Partition& p) {
  return ranges_of(OfGraph{g}, p);
}
std::vector<CutRange> named_ranges(const std::vector<OpInfo>& ops, const Partition& p) {
  return ranges_of(OfBlock{ops}, p);
}

std::vector<TensorId> cut_forward(std::vector<Chunk>& chunks,
                                  const std::vector<std::vector<CutRange>>& ranges,
                                  const PartRules& rules, int experts) {
  const std::vector<Tensor>& table = chunks.back().tensors;
  std::vector<int> slices(table.size(), 1);
  for (std::size_t c = 0; c < chunks.size(); ++c)
    for (const CutRange& r : ranges[c]) {
      PartRules of_range = rules;
      of_range.parts = r.parts;
      const PartAxes axes = infer_axes(chunks[c].forward, r.first, r.last, of_range);
      assert(axes.found());
      for (const auto& [tensor, axis] : axes.axis)
        slices[tensor] = std::lcm(slices[tensor], r.parts);
    }
  Slicing slicing = slicing_of(table, std::move(slices));
  for (std::size_t c = 0; c < chunks.size(); ++c) {
    Chunk& chunk = chunks[c];
    const auto cut = [&](OpGraph& graph, const std::vector<CutRange>& here) {
      graph = Cutter(graph, slicing, experts).run(here);
    };
    const std::vector<CutRange> first = moved(ranges[c], chunk.forward, chunk.first_forward);
    cut(chunk.forward, ranges[c]);
    cut(chunk.first_forward, first);
    for (OpGraph* graph : {&chunk.backward, &chunk.last_backward, &chunk.optimizer})
      cut(*graph, {});
    for (LayerGradients& g : chunk.gradients)
      for (TensorId* t : {&g.dense, &g.experts})
        if (*t != kNoTensor) *t = slicing.of(*t);
    chunk.tensors = sliced_table(chunk.tensors, slicing);
  }
  return std::move(slicing.new_number);
}

std::vector<TensorId> partition_forward(const Setting& s, const Layout& l,
                                        const GroupShapes& shapes, CostCache& costs,
                                        std::vector<Chunk>& chunks) {
  PartRules rules;
  rules.partial_gate = decides_on_parts(s.work.routing.gate);
  rules.sequences = l.micro_batch;
  rules.sequence_parallel = l.sp;
  const PartTime time = [&](const OpNode& node, int parts) {
    const Work work = parts > 1 ? part_of(node.work, parts) : node.work;
    return costs
        .cost({work, shapes[static_cast<std::size_t>(node.group)], l.ctas_of(node.group), parts})
        .time;
  };
  std::vector<std::vector<CutRange>> ranges;
  for (const Chunk& chunk : chunks)
    ranges.push_back(
        l.partition.program
            ? choose_ranges(chunk.forward, rules, {.most_parts = l.partition.parts}, time).ranges
            : named_ranges(chunk.forward, l.partition));
  return cut_forward(chunks, ranges, rules, s.model.moe->experts);
}

}  // namespace steploom
