// Loss, collectives and the optimizer.
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

// What a collective of the optimizer, or of a gradient bucket, moves.
std::vector<TensorRef> step_tensors(BindContext& c, const Operator& op) {
  std::vector<TensorRef> out;
  const CommGroup g = op.info.group;
  if (g == CommGroup::world) {
    out.push_back(c.out.squares);
  } else if (g == CommGroup::embedding) {
    for (std::size_t i = 0; i < c.list.size(); ++i)
      if (c.list[i].part == ParameterPart::weight &&
          (c.list[i].op == "embedding" || c.list[i].op == "head"))
        out.push_back(c.out.parameters[i].gradient);
  } else if (g == CommGroup::tp) {
    for (std::size_t i = 0; i < c.list.size(); ++i)
      if (c.list[i].bucket == ParameterBucket::replicated)
        out.push_back(c.out.parameters[i].gradient);
  } else {
    Range all;  // the units of a bucket lie side by side
    for (const std::uint32_t t : op.reads) {
      const Range unit = c.unit_of(op, t);
      if (all.count == 0 || unit.first < all.first) all.first = unit.first;
      all.count += unit.count;
    }
    out.push_back(c.gradients(all));
  }
  Bytes bytes = 0;
  for (const TensorRef& t : out) bytes += t.bytes();
  if (bytes != op.work().bytes)
    c.refuse(op, std::to_string(op.work().bytes) + " bytes", std::to_string(bytes));
  return out;
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
    if (call.kind != CollectiveKind::all_reduce_sum)
      c.refuse(op, "an all-reduce of gradients", std::string(name_of(op.work().kind)));
    for (const TensorRef& t : step_tensors(c, op)) call.pieces.push_back({t, t, {}, {}});
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

KernelCall bind_optimizer(BindContext& c, const Operator& op) {
  const Range all{0, c.dense.count + c.experts.count};
  if (op.work().kind == OpKind::zero_fill) return ZeroFill{{c.gradients(all)}};
  if (op.work().kind == OpKind::adam) {
    Adam call = c.options.adam;
    call.squares = c.out.squares;
    const auto state = [&](MemoryKind k) {
      return TensorRef{static_cast<std::uint32_t>(k), 0, ElementType::fp32, all.count, 1};
    };
    call.pieces = {{c.parameters(all), state(MemoryKind::master), state(MemoryKind::first),
                    state(MemoryKind::second), c.gradients(all)}};
    return call;
  }
  // Each parameter counts once over all ranks: 1 over how many hold it.
  SumOfSquares call;
  call.sum = c.out.squares;
  std::int64_t first = 0;
  for (const ParameterTensor& p : c.list) {
    const bool expert = p.bucket == ParameterBucket::experts;
    const double factor =
        1.0 / (p.copies * static_cast<double>(expert ? c.in.layout.expert_dp() : c.in.layout.dp));
    if (!call.pieces.empty() && call.pieces.back().factor == factor) {
      TensorRef& last = call.pieces.back().x;
      last = last.shaped(last.rows + p.elements(), 1);
    } else {
      call.pieces.push_back({c.gradients({first, p.elements()}), factor});
    }
    first += p.elements();
  }
  return call;
}

}  // namespace steploom
