// Products beside the communication of tensor parallelism, as Transformer Engine 2 runs them from
// its userbuffers (pytorch/module/base.py, initialize_ub;
// common/comm_gemm_overlap/comm_gemm_overlap.cpp) where Megatron-Core 0.20 has --tp-comm-overlap,
// with their defaults.
//
// Ring exchange (qkv and fc1 forward, proj's and fc2's data gradient): the shards of tp ranks go
// round, a step beside the product of the shard at hand, the rank's own first. With products of p
// and steps of r a part, tp parts take (tp − 1)·max(p, r) + p: exposed are (tp − 1)·max(r − p, 0).
//
// Pipeline (proj and fc2 forward): the product in kOverlapSplits parts, each reduce-scattered
// beside the next. With n parts of p and s: p + (n − 1)·max(p, s) + s. Transformer Engine cuts the
// output's columns; here its rows are cut, as the cost model's parts are.
//
// Bulk (qkv and fc1 backward): the input is gathered beside the data gradient, whose result is
// reduced beside the weight gradient. This order is the same without overlap: the collectives of
// torch are asynchronous too.
//
// What is sent lies in registered buffers, of the fixed memory (planner/memory_parts.h), and so do
// what arrives and what is reduced: tensors that live through the step. A shard that no norm wrote
// there is copied into them first (copy_into_ubuf). Messages are costed as NCCL's: Transformer
// Engine sends a ring's steps with copy engines. One call issues all parts: the first message costs
// the host what a collective does, the others what a kernel does, so that cutting saves no host
// time.
//
// Not overlapped: latent attention and prediction modules, whose projections have no buffers
// (Megatron-Core 0.20, extensions/transformer_engine.py, TELinear.__init__; tp_comm_buffer_name
// "mtp_eh_proj" of multi_token_prediction.py turns it off for the module's layer), routed experts
// (is_expert), and the head, which is none of Transformer Engine's.
#include <string>

#include "models/emitter.h"

namespace steploom {
namespace {

constexpr CommGroup kGroup = CommGroup::tp;
constexpr StreamKind kStream = StreamKind::tp;

bool overlaps(const Emitter& out) {
  return out.c.layout.tp_overlap && out.layer() < out.c.model.layers;
}

TensorId copied(Emitter& out, const std::string& name, Phase phase, TensorId shard,
                std::int64_t width, TensorId into) {
  const BuildContext& c = out.c;
  out.op(name + " copy",
         streaming(OpKind::residual, phase, c.work.precision, c.shard, width,
                   2 * c.shard * width * c.e),
         {shard}, {into});
  return into;
}

// The shards of all ranks, `width` wide, in one tensor of a slice each; `own` is this rank's, the
// others come in turn. Calls product(i, i-th of them) for each.
template <class Product>
void ring_exchange(Emitter& out, std::string_view name, Phase phase, std::int64_t width,
                   TensorId own, TensorId all, const Product& product) {
  const int parts = out.c.layout.tp;
  const Bytes bytes = out.c.shard * width * out.c.e;
  const auto slice = [all](int i) { return all + 1 + static_cast<TensorId>(i); };
  for (int i = 0; i < parts; ++i) {
    const TensorId here = i == 0 ? own : slice(i);
    out.set_direct(i > 0);
    // Before the product, so that it waits for that of the part before at most.
    if (i + 1 < parts)
      out.collective_into(slice(i + 1), name, OpKind::send_recv, kGroup, kStream, phase, bytes,
                          here);
    out.set_parts(parts);
    product(static_cast<TensorId>(i), here);
    out.set_parts(1);
  }
  out.set_direct(false);
}

TensorId buffer(Emitter& out, std::string_view name, std::int64_t width) {
  return out.sliced(name, out.c.tokens * width * out.c.e, out.c.layout.tp, TensorScope::step);
}

}  // namespace

TensorId gathered_linear(Emitter& out, const Projection& p, TensorId shard, bool made_in_place) {
  const BuildContext& c = out.c;
  if (!overlaps(out)) {
    const TensorId x = out.gather(p.communication, shard, p.k, Phase::forward);
    return out.linear(p.product, x, c.tokens, p.n, p.k);
  }
  const std::string name(p.communication);
  const TensorId all = buffer(out, name, p.k);
  const TensorId own =
      made_in_place ? shard : copied(out, name, Phase::forward, shard, p.k, all + 1);
  const TensorId y = out.sliced(p.product, c.tokens * p.n * c.e, c.layout.tp);
  ring_exchange(out, name, Phase::forward, p.k, own, all, [&](TensorId i, TensorId x) {
    out.op(p.product, product(Phase::forward, c.products, c.shard, p.n, p.k),
           {out.narrowed(p.product, Phase::forward, x, c.shard, p.k)}, {y + 1 + i});
  });
  return y;
}

TensorId linear_reduced(Emitter& out, const Projection& p, TensorId x) {
  const BuildContext& c = out.c;
  if (!overlaps(out)) {
    const TensorId y = out.linear(p.product, x, c.tokens, p.n, p.k);
    return out.reduce(p.communication, y, p.n, Phase::forward);
  }
  constexpr int kParts = kOverlapSplits;
  const Bytes bytes = c.tokens * p.n * c.e;
  const TensorId whole = out.narrowed(p.product, Phase::forward, x, c.tokens, p.k);
  const TensorId y = out.sliced(p.product, bytes, kParts, TensorScope::step);
  const TensorId reduced = out.sliced(p.communication, bytes / c.layout.tp, kParts);
  out.set_parts(kParts);
  for (TensorId i = 1; i <= kParts; ++i) {
    out.set_direct(i > 1);
    out.op(p.product, product(Phase::forward, c.products, c.tokens / kParts, p.n, p.k), {whole},
           {y + i});
    out.collective_into(reduced + i, p.communication, OpKind::reduce_scatter, kGroup, kStream,
                        Phase::forward, bytes / kParts, y + i);
  }
  out.set_direct(false);
  out.set_parts(1);
  return reduced;
}

TensorId gathered_data_grad(Emitter& out, const Projection& p, TensorId dy, TensorId& full) {
  const BuildContext& c = out.c;
  if (!overlaps(out)) {
    full = out.gather(p.communication, dy, p.n, Phase::data_grad);
    return out.linear_data_grad(p.product, full, c.tokens, p.n, p.k);
  }
  const std::string name(p.communication);
  full = buffer(out, name, p.n);
  const TensorId own = copied(out, name, Phase::data_grad, dy, p.n, full + 1);
  const TensorId dx =
      out.sliced(std::string(p.product) + " input gradient", c.tokens * p.k * c.e, c.layout.tp);
  ring_exchange(out, name, Phase::data_grad, p.n, own, full, [&](TensorId i, TensorId part) {
    out.op(p.product, product(Phase::data_grad, c.products, c.shard, p.n, p.k),
           {out.narrowed(p.product, Phase::data_grad, part, c.shard, p.n)}, {dx + 1 + i});
  });
  return dx;
}

TensorId gathered_backward(Emitter& out, const Projection& p, std::string_view reduction,
                           TensorId shard, TensorId dy) {
  const BuildContext& c = out.c;
  if (overlaps(out)) {
    const std::string name(p.communication);
    const Bytes bytes = c.shard * p.k * c.e;
    shard = copied(out, name, Phase::weight_grad, shard, p.k,
                   out.tensor(name + " buffer", bytes, TensorScope::step));
  }
  const TensorId x = out.gather(p.communication, shard, p.k, Phase::weight_grad);
  const TensorId dx = out.linear_data_grad(p.product, dy, c.tokens, p.n, p.k);
  const TensorId reduced = out.reduce(reduction, dx, p.k, Phase::data_grad);
  out.linear_weight_grad(p.product, x, dy, c.tokens, p.n, p.k);
  return reduced;
}

}  // namespace steploom
