// Loss, collectives and the optimizer.
#include <algorithm>

#include "models/operands.h"
#include "profiler/bind_context.h"

namespace steploom {
namespace {

constexpr ElementType kValue = ElementType::bf16;
constexpr ElementType kStatistic = ElementType::fp32;

CollectiveKind kind_of(const BindContext& c, const Operator& op) {
  switch (op.work().kind) {
    case OpKind::all_reduce:
      return op.info.name == kLogitMaximum ? CollectiveKind::all_reduce_max
                                           : CollectiveKind::all_reduce_sum;
    case OpKind::all_gather:
      return CollectiveKind::all_gather;
    case OpKind::reduce_scatter:
      return CollectiveKind::reduce_scatter;
    case OpKind::all_to_all:
      return CollectiveKind::all_to_all;
    default:
      break;
  }
  const CommGroup g = op.info.group;
  if (g == CommGroup::pp_forward_out || g == CommGroup::pp_backward_out)
    return CollectiveKind::send;
  if (g == CommGroup::pp_forward_in || g == CommGroup::pp_backward_in)
    return CollectiveKind::receive;
  c.refuse(op, "a message of the pipeline", std::string(name_of(g)));
}

// One of so many equal parts of a range.
Range equal_part(const Range& all, int part, int parts) {
  const std::int64_t each = all.count / parts;
  return {all.first + part * each, each};
}

// The units of a gradient bucket lie side by side; of it, the operator's part.
Range bucket_of(const BindContext& c, const Operator& op) {
  Range all;
  for (const std::uint32_t t : op.reads) {
    const Range unit = c.unit_of(op, c.tensor_name(t));
    if (all.count == 0 || unit.first < all.first) all.first = unit.first;
    all.count += unit.count;
  }
  if (all.count % op.info.parts != 0)
    c.refuse(op, "a bucket in " + std::to_string(op.info.parts) + " equal parts",
             std::to_string(all.count) + " elements");
  return equal_part(all, op.info.part, op.info.parts);
}

// A member's part of a bucket.
Range part_of(const BindContext& c, const Operator& op, const Range& bucket) {
  const auto n = static_cast<std::int64_t>(c.size_of(op.info.group));
  if (bucket.count % n != 0)
    c.refuse(op, "a bucket in equal parts for " + std::to_string(n) + " ranks",
             std::to_string(bucket.count) + " elements");
  return equal_part(bucket, c.index_in(op.info.group), static_cast<int>(n));
}

std::vector<Collective::Piece> in_place(const std::vector<TensorRef>& tensors) {
  std::vector<Collective::Piece> out;
  for (const TensorRef& t : tensors) out.push_back({t, t, {}, {}});
  return out;
}

// What a collective over tensors of the step moves: gradients, parameters or their norm.
std::vector<Collective::Piece> step_pieces(BindContext& c, const Operator& op) {
  std::vector<TensorRef> tensors;
  const auto gradients_of = [&](const auto& wanted) {
    for (std::size_t i = 0; i < c.list.size(); ++i)
      if (wanted(c.list[i])) tensors.push_back(c.out.parameters[i].gradient);
  };
  switch (op.info.group) {
    case CommGroup::world:
      return in_place({c.out.squares});
    case CommGroup::embedding:
      gradients_of([](const ParameterTensor& p) {
        return p.part == ParameterPart::weight && (p.op == "embedding" || p.op == "head");
      });
      return in_place(tensors);
    case CommGroup::tp:
      gradients_of(
          [](const ParameterTensor& p) { return p.bucket == ParameterBucket::replicated; });
      return in_place(tensors);
    default:
      break;
  }
  if (op.work().kind == OpKind::all_gather) {  // parameters, from the layer that needs them first
    const bool expert = op.info.group == CommGroup::expert_dp;
    const Range bucket{c.unit_of(op, gradient_name(op.info.layer, expert)).first,
                       op.work().bytes / 2};
    // In the parts in which its gradients were reduced.
    const int parts = c.in.layout.gradient_parts(
        bucket.count, static_cast<int>(c.size_of(op.info.group)), c.in.runtime.grad_bytes);
    std::vector<Collective::Piece> pieces;
    for (int i = 0; i < parts; ++i) {
      const Range part = equal_part(bucket, i, parts);
      pieces.push_back({c.parameters(part), c.parameters(part_of(c, op, part)), {}, {}});
    }
    return pieces;
  }
  const Range bucket = bucket_of(c, op);
  if (op.work().kind == OpKind::all_reduce) return in_place({c.gradients(bucket)});
  c.own_parts.push_back(part_of(c, op, bucket));
  return {{c.gradients(c.own_parts.back()), c.gradients(bucket), {}, {}}};
}

bool of_step(const BindContext& c, const Operator& op) {
  const std::uint32_t t = op.writes.empty() ? op.reads.at(0) : op.writes[0];
  return c.in.program.tensor_tables[c.device.tensor_table][t].scope == TensorScope::step;
}

}  // namespace

KernelCall bind_loss(BindContext& c, const Operator& op) {
  const Work& w = op.work();
  const std::int64_t first = op.micro_batch * c.tokens;
  const TensorRef targets = c.out.targets.slice(first, c.tokens);
  const TensorRef loss = c.out.loss.slice(first, c.tokens);
  const std::int64_t first_id = c.at.tp * w.n;
  if (w.phase != Phase::forward) {
    CrossEntropyBackward call;
    call.logits = c.read(op, 0, kValue, w.m, w.n);
    call.log_sum = c.read(op, 1, kStatistic, w.m, 1);
    c.write(op, 0, kValue, w.m, w.n);
    if (op.reads[0] != op.writes[0]) c.refuse(op, "logits replaced in place", "two tensors");
    call.targets = targets;
    call.first_id = first_id;
    call.factor = 1 / static_cast<double>(c.in.work.tokens_per_step());
    return call;
  }
  const auto sums = [&](std::size_t operand, std::int64_t width) {
    return c.read(op, operand, kStatistic, w.m, width);
  };
  const auto result = [&](std::size_t operand, std::int64_t width) {
    return c.write(op, operand, kStatistic, w.m, width);
  };
  if (op.info.name == kLoss)
    return CrossEntropy{result(0, 1), loss, c.read(op, 0, kValue, w.m, w.n), targets};
  if (op.info.name == kLossOfSlice)
    return CrossEntropySlice{result(0, 1), result(1, 3), c.read(op, 0, kValue, w.m, w.n), targets,
                             first_id};
  if (op.info.name == kLossSums) return CrossEntropySums{result(0, 2), sums(0, 3), sums(1, 1)};
  if (op.info.name == kLossEnd) return CrossEntropyEnd{result(0, 1), loss, sums(0, 1), sums(1, 2)};
  c.refuse(op, "a kernel of the loss", op.info.name);
}

KernelCall bind_collective(BindContext& c, const Operator& op) {
  Collective call;
  call.kind = kind_of(c, op);
  call.communicator = c.communicator(op);
  if (of_step(c, op)) {
    call.pieces = step_pieces(c, op);
    Bytes bytes = 0;
    for (const Collective::Piece& p : call.pieces) bytes += std::max(p.to.bytes(), p.from.bytes());
    if (bytes != op.work().bytes)
      c.refuse(op, std::to_string(op.work().bytes) + " bytes", std::to_string(bytes));
    return call;
  }
  Collective::Piece piece;
  if (call.kind == CollectiveKind::receive) {
    c.set_type(op.writes.at(0), kValue);
  } else {
    piece.from = c.flat(op, op.reads.at(0));
    if (!op.writes.empty()) c.set_type(op.writes[0], piece.from.type);
  }
  if (call.kind != CollectiveKind::send) piece.to = c.flat(op, op.writes.at(0));
  const auto n = static_cast<std::int64_t>(c.size_of(op.info.group));
  std::int64_t from = piece.from.elements(), to = piece.to.elements();
  if (call.kind == CollectiveKind::all_gather) from *= n;
  if (call.kind == CollectiveKind::reduce_scatter) to *= n;
  if (piece.from && piece.to && from != to)
    c.refuse(op, "buffers that fit the group of " + std::to_string(n),
             std::to_string(from) + " and " + std::to_string(to) + " elements");
  call.pieces.push_back(std::move(piece));
  return call;
}

namespace {

// What this rank updates.
std::vector<Range> updated(const BindContext& c) {
  if (c.in.layout.zero == 0) return {{0, c.dense.count + c.experts.count}};
  std::vector<Range> out = c.own_parts;
  if (c.in.layout.dp == 1 && c.dense.count > 0) out.push_back(c.dense);
  if (c.in.layout.expert_dp() == 1 && c.experts.count > 0) out.push_back(c.experts);
  std::sort(out.begin(), out.end(),
            [](const Range& a, const Range& b) { return a.first < b.first; });
  return out;
}

KernelCall adam(BindContext& c) {
  Adam call = c.options.adam;
  call.squares = c.out.squares;
  call.pieces.clear();
  std::int64_t next = 0;  // states lie densely
  for (const Range& r : updated(c)) {
    const auto state = [&](MemoryKind k) {
      return TensorRef{static_cast<std::uint32_t>(k), next * 4, ElementType::fp32, r.count, 1};
    };
    call.pieces.push_back({c.parameters(r), state(MemoryKind::master), state(MemoryKind::first),
                           state(MemoryKind::second), c.gradients(r)});
    next += r.count;
  }
  for (const MemoryKind k : {MemoryKind::master, MemoryKind::first, MemoryKind::second})
    c.out.memories[static_cast<std::size_t>(k)].bytes = next * 4;
  return call;
}

// Each parameter counts once over all ranks: 1 over how many of them sum it.
KernelCall squares(BindContext& c) {
  SumOfSquares call;
  call.sum = c.out.squares;
  const Layout& l = c.in.layout;
  for (const Range& r : updated(c)) {
    std::int64_t first = 0;
    for (const ParameterTensor& p : c.list) {
      const std::int64_t begin = std::max(first, r.first);
      const std::int64_t end = std::min(first + p.elements(), r.first + r.count);
      first += p.elements();
      if (begin >= end) continue;
      const bool expert = p.bucket == ParameterBucket::experts;
      const int ranks = p.copies * (l.zero == 1 ? 1 : expert ? l.expert_dp() : l.dp);
      const TensorRef x = c.gradients({begin, end - begin});
      SumOfSquares::Piece* last = call.pieces.empty() ? nullptr : &call.pieces.back();
      if (last != nullptr && last->factor == 1.0 / ranks &&
          last->x.offset + last->x.bytes() == x.offset)
        last->x = last->x.shaped(last->x.rows + x.rows, 1);
      else
        call.pieces.push_back({x, 1.0 / ranks});
    }
  }
  return call;
}

}  // namespace

KernelCall bind_optimizer(BindContext& c, const Operator& op) {
  switch (op.work().kind) {
    case OpKind::adam:
      return adam(c);
    case OpKind::grad_norm:
      return squares(c);
    default:
      return ZeroFill{{c.gradients({0, c.dense.count + c.experts.count})}};
  }
}

}  // namespace steploom
