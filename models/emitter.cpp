#include "models/emitter.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "models/operands.h"

namespace steploom {

TensorId Emitter::tensor(std::string_view name, Bytes bytes, TensorScope scope) {
  chunk_.tensors.push_back({std::string(name), bytes, scope});
  if (routed_ && scope == TensorScope::micro_batch) chunk_.tensors.back().routed = layer_;
  return static_cast<TensorId>(chunk_.tensors.size() - 1);
}

TensorId Emitter::sliced(std::string_view name, Bytes bytes, int parts, TensorScope scope) {
  assert(parts > 1 && bytes % parts == 0);
  const TensorId whole = tensor(name, bytes, scope);
  for (int i = 0; i < parts; ++i) {
    const TensorId slice =
        tensor(std::string(name) + " " + std::to_string(i), bytes / parts, scope);
    chunk_.tensors[slice].whole = whole;
    chunk_.tensors[slice].offset = bytes / parts * i;
  }
  return whole;
}

TensorId Emitter::gradient(int layer, bool experts) {
  auto it = std::find_if(chunk_.gradients.begin(), chunk_.gradients.end(),
                         [layer](const LayerGradients& g) { return g.layer == layer; });
  if (it == chunk_.gradients.end()) it = chunk_.gradients.insert(it, {layer});
  TensorId& t = experts ? it->experts : it->dense;
  if (t == kNoTensor) t = tensor(gradient_name(layer, experts), 0, TensorScope::step);
  return t;
}

TensorId Emitter::side(std::string_view name, Bytes bytes) {
  return c.runtime.complete_operands ? tensor(name, bytes) : kNoTensor;
}

OpId Emitter::op(OpNode node) {
  node.layer = layer_;
  node.recompute = recompute_;
  node.parts = parts_;
  node.routed = routed_;
  node.direct = direct_ && is_communication(node.work.kind);
  std::erase(node.reads, kNoTensor);
  std::erase(node.writes, kNoTensor);
  producer_.resize(chunk_.tensors.size(), -1);
  const OpId id = graph_.add(node);
  for (const TensorId t : node.reads)
    each_overlapping(chunk_.tensors, t, [&](TensorId o) {
      if (producer_[o] >= 0) graph_.depend(static_cast<OpId>(producer_[o]), id, o);
    });
  for (const TensorId t : node.writes) producer_[t] = id;
  return id;
}

OpId Emitter::op(std::string_view name, const Work& work, Ids reads, Ids writes) {
  OpNode node;
  node.name = name;
  node.work = work;
  node.reads = reads;
  node.writes = writes;
  return op(std::move(node));
}

Precision Emitter::product_precision(std::string_view name) const {
  const bool kept = name == "router" || name == "head" || name == "shared expert gate";
  return kept ? c.kept() : c.products;
}

TensorId Emitter::narrowed(std::string_view product, Phase phase, TensorId x, std::int64_t m,
                           std::int64_t n) {
  if (operand_bytes(product_precision(product)) == c.e) return x;
  const std::string name =
      std::string(product) + (phase == Phase::forward ? "" : " gradient") + " cast";
  const TensorId narrow = tensor(name, 2 * m * n);
  op(name, streaming(OpKind::residual, phase, c.work.precision, m, n, m * n * (c.e + 2)), {x},
     {narrow});
  return narrow;
}

TensorId Emitter::linear(std::string_view name, TensorId x, std::int64_t m, std::int64_t n,
                         std::int64_t k) {
  const TensorId y = tensor(name, m * n * c.e);
  op(name, product(Phase::forward, product_precision(name), m, n, k),
     {narrowed(name, Phase::forward, x, m, k)}, {y});
  return y;
}

TensorId Emitter::linear_data_grad(std::string_view name, TensorId dy, std::int64_t m,
                                   std::int64_t n, std::int64_t k) {
  const TensorId dx = tensor(std::string(name) + " input gradient", m * k * c.e);
  op(name, product(Phase::data_grad, product_precision(name), m, n, k),
     {narrowed(name, Phase::data_grad, dy, m, n)}, {dx});
  return dx;
}

void Emitter::linear_weight_grad(std::string_view name, TensorId x, TensorId dy, std::int64_t m,
                                 std::int64_t n, std::int64_t k) {
  op(name, product(Phase::weight_grad, product_precision(name), m, n, k), {x, dy},
     {dense_gradient()});
}

namespace {

// Moves `tensors` times m rows of width n.
Work norm_work(const BuildContext& c, Phase phase, std::int64_t m, std::int64_t n, int tensors) {
  Work work = streaming(OpKind::norm, phase, c.work.precision, m, n, tensors * m * n * c.e);
  work.k = c.model.norm_bias ? 2 : 1;
  return work;
}

}  // namespace

TensorId Emitter::norm(std::string_view name, std::int64_t m, std::int64_t n, TensorId x,
                       NormSaved& saved) {
  const TensorId y = tensor(name, m * n * c.e);
  const std::string of(name);
  saved.scale = side(of + " scale", m * 4);
  if (c.model.norm_bias) saved.mean = side(of + " mean", m * 4);
  op(name, norm_work(c, Phase::forward, m, n, 2), {x}, {y, saved.scale, saved.mean});
  return y;
}

TensorId Emitter::norm_backward(std::string_view name, std::int64_t m, std::int64_t n, TensorId dy,
                                TensorId x, const NormSaved& saved) {
  const TensorId dx = tensor(name, m * n * c.e);
  op(name, norm_work(c, Phase::data_grad, m, n, 3), {dy, x, saved.scale, saved.mean},
     {dx, c.runtime.complete_operands ? dense_gradient() : kNoTensor});
  return dx;
}

TensorId Emitter::stream(std::string_view name, OpKind kind, Phase phase, std::int64_t m,
                         std::int64_t read_width, std::int64_t write_width, Ids reads) {
  const TensorId y = tensor(name, m * write_width * c.e);
  Work work = streaming(kind, phase, c.work.precision, m, write_width,
                        m * (read_width + write_width) * c.e);
  if (kind == OpKind::norm) work.k = c.model.norm_bias ? 2 : 1;
  op(name, work, reads, {y});
  return y;
}

TensorId Emitter::collective(std::string_view name, OpKind kind, CommGroup group, StreamKind stream,
                             Phase phase, Bytes bytes, Bytes out, TensorId input) {
  const TensorId y = tensor(name, out);
  collective_into(y, name, kind, group, stream, phase, bytes, input);
  return y;
}

void Emitter::collective_into(TensorId output, std::string_view name, OpKind kind, CommGroup group,
                              StreamKind stream, Phase phase, Bytes bytes, TensorId input) {
  OpNode node;
  node.name = name;
  node.work = communication(kind, phase, bytes);
  node.group = group;
  node.stream = stream;
  node.reads = {input};
  node.writes = {output};
  op(std::move(node));
}

void Emitter::in_place(std::string_view name, OpKind kind, CommGroup group, StreamKind stream,
                       Phase phase, Bytes bytes, TensorId t) {
  OpNode node;
  node.name = name;
  node.work = communication(kind, phase, bytes);
  node.group = group;
  node.stream = stream;
  node.reads = {t};
  node.writes = {t};
  op(std::move(node));
}

TensorId Emitter::gather(std::string_view name, TensorId shard, std::int64_t width, Phase phase) {
  if (!c.layout.sp) return shard;
  const Bytes bytes = c.tokens * width * c.e;
  return collective(name, OpKind::all_gather, CommGroup::tp, StreamKind::tp, phase, bytes, bytes,
                    shard);
}

TensorId Emitter::reduce(std::string_view name, TensorId full, std::int64_t width, Phase phase) {
  if (c.layout.tp == 1) return full;
  const Bytes bytes = c.tokens * width * c.e;
  if (c.layout.sp)
    return collective(name, OpKind::reduce_scatter, CommGroup::tp, StreamKind::tp, phase, bytes,
                      bytes / c.layout.tp, full);
  in_place(name, OpKind::all_reduce, CommGroup::tp, StreamKind::tp, phase, bytes, full);
  return full;
}

}  // namespace steploom
