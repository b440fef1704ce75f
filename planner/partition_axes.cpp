#include "planner/partition_axes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "models/operands.h"
#include "models/shapes.h"

namespace steploom {
namespace {

// One way to cut an operator: an axis for each operand.
struct Way {
  std::vector<PartAxis> reads, writes;
};

Way alike(const OpNode& node, PartAxis axis) {
  return {std::vector(node.reads.size(), axis), std::vector(node.writes.size(), axis)};
}

bool sorts_rows(const OpNode& node) {
  return node.name == kSortByExpert || node.name == kSortBySender;
}

bool between_sequences(const Work& w) {
  return w.kind == OpKind::attention || w.kind == OpKind::batched_matmul ||
         w.kind == OpKind::softmax;
}

class Inference {
 public:
  Inference(const OpGraph& graph, OpId first, OpId last, const PartRules& rules)
      : g_(graph), first_(first), last_(last), rules_(rules) {}

  PartAxes run() {
    PartAxes out;
    for (OpId op = first_; op < last_; ++op) {
      const OpNode& node = g_.node(op);
      if (runs_whole(node)) continue;
      if (auto reason = refused(node)) {
        out.refusal = *std::move(reason);
        return out;
      }
    }
    if (assign(first_))
      out.axis = std::move(axis_);
    else
      out.refusal =
          fmt::format("'{}' finds no axis that its operands share", g_.node(farthest_).name);
    return out;
  }

 private:
  std::optional<std::string> refused(const OpNode& node) const {
    const Work& w = node.work;
    const auto because = [&](std::string_view reason) {
      return fmt::format("'{}' {}", node.name, reason);
    };
    if (w.phase != Phase::forward) return because("is not of the forward pass");
    if (w.kind == OpKind::send_recv) return because("is a message between stages or of a ring");
    if (node.group == CommGroup::cp) return because("joins the tokens of context-parallel ranks");
    if (node.group == CommGroup::tp && rules_.sequence_parallel)
      return because("joins the tokens of sequence-parallel ranks");
    if (w.kind == OpKind::router && !rules_.partial_gate)
      return because("must see all tokens of the micro-batch");
    if (between_sequences(w) && rules_.sequences % rules_.parts != 0)
      return because(fmt::format("cannot cut {} sequences in {}", rules_.sequences, rules_.parts));
    if (const std::int64_t rows = rows_to_cut(w); rows % rules_.parts != 0)
      return because(fmt::format("cannot cut {} rows in {}", rows, rules_.parts));
    return std::nullopt;
  }

  std::vector<Way> ways(const OpNode& node) const {
    constexpr auto kBatch = PartAxis::batch;
    constexpr auto kIrregular = PartAxis::irregular;
    if (node.work.kind == OpKind::router) {
      // Of its tables, the last one named (operands.h) is by row, the others are by token.
      Way way = alike(node, kBatch);
      if (way.writes.size() > 1) way.writes.back() = kIrregular;
      return {way};
    }
    if (node.work.kind == OpKind::permute && !sorts_rows(node)) {
      Way way = alike(node, kBatch);
      if (is_table_of_rows(node)) way.reads.back() = kIrregular;
      way.writes.front() = kIrregular;
      return {way};
    }
    if (node.work.kind == OpKind::unpermute) {
      Way way = alike(node, kBatch);
      way.reads.front() = kIrregular;
      return {way};
    }
    if (node.routed || sorts_rows(node))
      return {alike(node, PartAxis::capacity), alike(node, kIrregular)};
    return {alike(node, kBatch)};
  }

  // Do the gathered rows come with the table that says where from?
  bool is_table_of_rows(const OpNode& permute) const {
    for (OpId op = 0; op < g_.size(); ++op) {
      const OpNode& node = g_.node(op);
      if (node.work.kind != OpKind::router || node.writes.size() < 2) continue;
      if (node.writes.back() == permute.reads.back()) return true;
    }
    return false;
  }

  // Rows cut irregularly come into being within a range; only a table of them may come from before.
  bool may_begin(const OpNode& reader, PartAxis axis) const {
    return axis != PartAxis::irregular || reader.work.kind == OpKind::permute;
  }

  bool fits(const OpNode& reader, TensorId t, PartAxis axis, bool read) {
    const auto known = axis_.find(t);
    if (known != axis_.end()) return known->second == axis;
    return !read || may_begin(reader, axis);
  }

  bool assign(OpId op) {
    while (op < last_ && runs_whole(g_.node(op))) ++op;
    farthest_ = std::max(farthest_, std::min(op, last_ - 1));
    if (op == last_) return leaves_well();
    const OpNode& node = g_.node(op);
    for (const Way& way : ways(node)) {
      const std::map<TensorId, PartAxis> before = axis_;
      bool good = true;
      for (std::size_t i = 0; good && i < node.reads.size(); ++i) {
        good = fits(node, node.reads[i], way.reads[i], true);
        axis_.emplace(node.reads[i], way.reads[i]);
      }
      for (std::size_t i = 0; good && i < node.writes.size(); ++i) {
        good = fits(node, node.writes[i], way.writes[i], false);
        axis_.emplace(node.writes[i], way.writes[i]);
      }
      if (good && assign(op + 1)) return true;
      axis_ = before;
    }
    return false;
  }

  // What lies irregularly is no order that a later forward operator could read.
  bool leaves_well() const {
    for (OpId op = last_; op < g_.size(); ++op)
      for (const TensorId t : g_.node(op).reads) {
        const auto known = axis_.find(t);
        if (known == axis_.end() || known->second != PartAxis::irregular) continue;
        if (!is_written_here(t)) continue;
        return false;
      }
    return true;
  }
  bool is_written_here(TensorId t) const {
    for (OpId op = first_; op < last_; ++op)
      if (const auto& w = g_.node(op).writes; std::find(w.begin(), w.end(), t) != w.end())
        return true;
    return false;
  }

  const OpGraph& g_;
  OpId first_, last_;
  PartRules rules_;
  std::map<TensorId, PartAxis> axis_;
  OpId farthest_ = 0;
};

}  // namespace

std::string_view name_of(PartAxis a) {
  constexpr std::array<std::string_view, 3> kNames{"batch", "capacity", "irregular"};
  return kNames.at(static_cast<std::size_t>(a));
}

bool runs_whole(CommGroup group) {
  switch (group) {
    case CommGroup::dp:
    case CommGroup::expert_dp:
    case CommGroup::dp_outer:
    case CommGroup::expert_dp_outer:
      return true;
    default:
      return false;
  }
}

PartAxes infer_axes(const OpGraph& forward, OpId first, OpId last, const PartRules& rules) {
  return Inference(forward, first, last, rules).run();
}

}  // namespace steploom
