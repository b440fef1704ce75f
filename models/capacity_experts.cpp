#include "models/capacity_experts.h"

#include <algorithm>
#include <cmath>

namespace steploom {
namespace {

constexpr Bytes kFp32 = 4, kIndex = 8;
constexpr std::int64_t kLeastCapacity = 4;  // MoE's min_capacity
// Kernels over S × E numbers, some 8 bytes each read and written: softmax, arg-max, one-hot, its
// sums and means, drawn numbers, top-k, scatter, cumulated sum, masks (top1gating, counted by
// hand).
constexpr int kGateKernels = 28, kGateBackwardKernels = 10;

struct Places {
  std::int64_t tokens, h, experts, local, capacity, rows, cells, width, wide;
};

Places places_of(const BuildContext& c) {
  const MoeSpec& moe = *c.model.moe;
  Places p{};
  p.tokens = c.shard;
  p.h = c.model.hidden;
  p.experts = moe.experts;
  p.local = moe.experts / c.layout.ep;
  p.capacity = expert_capacity(moe, c.runtime.capacity_factor, c.shard);
  p.rows = p.experts * p.capacity;  // before the exchange, and after it: all ranks' for the local
  p.cells = p.tokens * p.rows;
  p.width = moe.expert.width;
  p.wide = moe.expert.gated ? 2 * p.width : p.width;
  return p;
}

class Gating {
 public:
  Gating(Emitter& out, const Places& p, Phase phase) : out_(out), p_(p), phase_(phase) {}

  // A memory-bound kernel, or `launches` of them.
  TensorId kernel(std::string_view name, OpKind kind, Bytes moved, Bytes result,
                  std::vector<TensorId> reads, int launches = 1) {
    const TensorId y = out_.tensor(name, result);
    OpNode node;
    node.name = name;
    node.work = streaming(kind, phase_, out_.c.work.precision, p_.tokens, p_.experts, moved);
    node.work.elementwise = 1;
    node.launches = launches;
    node.reads = std::move(reads);
    node.writes = {y};
    out_.op(std::move(node));
    return y;
  }

 private:
  Emitter& out_;
  const Places& p_;
  Phase phase_;
};

// A product without a weight: rows of `k` times k × n.
TensorId einsum(Emitter& out, std::string_view name, Phase phase, std::int64_t m, std::int64_t n,
                std::int64_t k, TensorId a, TensorId b) {
  const TensorId y = out.tensor(name, m * n * out.c.e);
  Work w = product(Phase::forward, out.c.kept(), m, n, k);
  w.phase = phase;
  out.op(name, w, {a, b}, {y});
  return y;
}

TensorId exchange(Emitter& out, std::string_view name, Phase phase, const Places& p, TensorId x) {
  if (out.c.layout.ep == 1) return x;
  const Bytes bytes = p.rows * p.h * out.c.e;
  return out.collective(name, OpKind::all_to_all, CommGroup::ep, StreamKind::ep, phase, bytes,
                        bytes, x);
}

// One product an expert.
TensorId experts(Emitter& out, std::string_view name, Phase phase, const Places& p, std::int64_t n,
                 std::int64_t k, TensorId x) {
  const TensorId y = out.tensor(name, p.rows * (phase == Phase::forward ? n : k) * out.c.e);
  OpNode node;
  node.name = name;
  node.work = grouped_product(phase, out.c.products, p.local, p.rows, n, k);
  node.launches = static_cast<double>(p.local);
  node.reads = {x};
  node.writes = {y};
  out.op(std::move(node));
  return y;
}

void experts_weight_grad(Emitter& out, std::string_view name, const Places& p, std::int64_t n,
                         std::int64_t k, TensorId x, TensorId dy) {
  OpNode node;
  node.name = name;
  node.work = grouped_product(Phase::weight_grad, out.c.products, p.local, p.rows, n, k);
  node.launches = static_cast<double>(p.local);
  node.reads = {x, dy};
  node.writes = {out.expert_gradient()};
  out.op(std::move(node));
}

// Outputs of the experts side by side, or cut apart again.
TensorId joined(Emitter& out, Phase phase, const Places& p, TensorId x) {
  if (p.local == 1) return x;
  return out.stream("experts cat", OpKind::permute, phase, p.rows, p.h, p.h, {x});
}

Work fp32_product(Phase phase, std::int64_t m, std::int64_t n, std::int64_t k) {
  return product(phase, Precision::fp32, m, n, k);
}

}  // namespace

std::int64_t expert_capacity(const MoeSpec& moe, double factor, std::int64_t tokens) {
  const double even = static_cast<double>(tokens) / moe.experts * factor * moe.top_k;
  return std::max(static_cast<std::int64_t>(std::ceil(even)), kLeastCapacity);
}

TensorId capacity_moe_forward(Emitter& out, TensorId normed, MoeSaved& saved) {
  const BuildContext& c = out.c;
  const MoeSpec& moe = *c.model.moe;
  const Places p = places_of(c);
  Gating gate(out, p, Phase::forward);
  const auto memory = OpKind::router;
  const Bytes scores = p.tokens * p.experts * kFp32;
  saved.wide = gate.kernel("gate input in fp32", memory, p.tokens * p.h * (c.e + kFp32),
                           p.tokens * p.h * kFp32, {normed});
  const TensorId logits = out.tensor("gate", scores);
  out.op("gate", fp32_product(Phase::forward, p.tokens, p.experts, p.h), {saved.wide}, {logits});
  saved.scores = gate.kernel("gating", memory, kGateKernels * 2 * kIndex * p.tokens * p.experts,
                             scores, {logits}, kGateKernels);
  // top1gating multiplies scores and places of each token; top2gating does so twice and adds;
  // topkgating has one-hot places of every choice first, in 8 bytes and then in 4.
  TensorId weights = kNoTensor;
  if (moe.top_k <= 2) {
    weights =
        gate.kernel("combine weights", memory, p.cells * kFp32, p.cells * kFp32, {saved.scores});
    if (moe.top_k == 2) {
      const TensorId second = gate.kernel("second combine weights", memory, p.cells * kFp32,
                                          p.cells * kFp32, {saved.scores});
      weights = gate.kernel("combine weights sum", memory, 3 * p.cells * kFp32, p.cells * kFp32,
                            {weights, second});
    }
  } else {
    const TensorId hot =
        gate.kernel("places", memory, p.cells * kIndex, p.cells * kIndex, {saved.scores}, 2);
    saved.places =
        gate.kernel("places in fp32", memory, p.cells * (kIndex + kFp32), p.cells * kFp32, {hot});
    weights = gate.kernel("combine weights", memory, 2 * p.cells * kFp32, p.cells * kFp32,
                          {saved.scores, saved.places});
  }
  const TensorId taken =
      gate.kernel("dispatch mask", memory, p.cells * (kFp32 + 1), p.cells, {weights});
  saved.mask =
      gate.kernel("dispatch mask in 16 bits", memory, p.cells * (1 + c.e), p.cells * c.e, {taken});
  const TensorId sent =
      einsum(out, "dispatch einsum", Phase::forward, p.rows, p.h, p.tokens, saved.mask, normed);
  ExpertRows e;
  e.rows = exchange(out, "dispatch", Phase::forward, p, sent);
  e.hidden = experts(out, "experts up", Phase::forward, p, p.wide, p.h, e.rows);
  e.activated = out.stream("experts activation", OpKind::activation, Phase::forward, p.rows, p.wide,
                           p.width, {e.hidden});
  const TensorId y = experts(out, "experts down", Phase::forward, p, p.h, p.width, e.activated);
  saved.back = exchange(out, "combine", Phase::forward, p, joined(out, Phase::forward, p, y));
  saved.chunks.push_back(e);
  saved.weight = gate.kernel("combine weights in 16 bits", memory, p.cells * (kFp32 + c.e),
                             p.cells * c.e, {weights});
  const TensorId combined = einsum(out, "combine einsum", Phase::forward, p.tokens, p.h, p.rows,
                                   saved.weight, saved.back);
  if (moe.shared_width == 0) return combined;
  const TensorId shared = shared_expert_forward(out, normed, saved);
  return out.stream("shared expert sum", OpKind::residual, Phase::forward, p.tokens, 2 * p.h, p.h,
                    {combined, shared});
}

TensorId capacity_moe_backward(Emitter& out, TensorId dy, TensorId normed, const MoeSaved& saved) {
  const BuildContext& c = out.c;
  const MoeSpec& moe = *c.model.moe;
  const Places p = places_of(c);
  constexpr Phase kBack = Phase::data_grad;
  Gating gate(out, p, kBack);
  const ExpertRows& e = saved.chunks.front();
  const TensorId d_home =
      einsum(out, "combine einsum", kBack, p.rows, p.h, p.tokens, saved.weight, dy);
  const TensorId d_weights =
      einsum(out, "combine weights", kBack, p.tokens, p.rows, p.h, dy, saved.back);
  const TensorId d_y = joined(out, kBack, p, exchange(out, "combine backward", kBack, p, d_home));
  const TensorId d_act = experts(out, "experts down", kBack, p, p.h, p.width, d_y);
  experts_weight_grad(out, "experts down", p, p.h, p.width, e.activated, d_y);
  const TensorId d_hidden = out.stream("experts activation", OpKind::activation, kBack, p.rows,
                                       p.wide + p.width, p.wide, {d_act, e.hidden});
  const TensorId d_rows = experts(out, "experts up", kBack, p, p.wide, p.h, d_hidden);
  experts_weight_grad(out, "experts up", p, p.wide, p.h, e.rows, d_hidden);
  const TensorId d_sent = exchange(out, "dispatch backward", kBack, p, d_rows);
  const TensorId dx =
      einsum(out, "dispatch einsum", kBack, p.tokens, p.h, p.rows, saved.mask, d_sent);

  const auto memory = OpKind::router;
  const TensorId wide = gate.kernel("combine weights in fp32", memory, p.cells * (c.e + kFp32),
                                    p.cells * kFp32, {d_weights});
  const Bytes scores = p.tokens * p.experts * kFp32;
  const int outer = moe.top_k == 2 ? 2 : 1;  // products of scores and places to go back through
  const Bytes each = (moe.top_k > 2 ? 2 : 1) * p.cells * kFp32;
  const TensorId d_scores = gate.kernel("places", memory, outer * each, scores,
                                        {wide, saved.scores, saved.places}, outer);
  const TensorId d_logits =
      gate.kernel("gating", memory, kGateBackwardKernels * 3 * kFp32 * p.tokens * p.experts, scores,
                  {d_scores, saved.scores}, kGateBackwardKernels);
  const TensorId d_wide = out.tensor("gate input gradient", p.tokens * p.h * kFp32);
  out.op("gate", fp32_product(kBack, p.tokens, p.experts, p.h), {d_logits}, {d_wide});
  out.op("gate", fp32_product(Phase::weight_grad, p.tokens, p.experts, p.h), {saved.wide, d_logits},
         {out.dense_gradient()});
  const TensorId narrow =
      gate.kernel("gate input gradient in 16 bits", memory, p.tokens * p.h * (c.e + kFp32),
                  p.tokens * p.h * c.e, {d_wide});
  TensorId sum = out.stream("gate gradient sum", OpKind::residual, kBack, p.tokens, 2 * p.h, p.h,
                            {dx, narrow});
  if (moe.shared_width == 0) return sum;
  const TensorId d_shared = shared_expert_backward(out, dy, normed, saved);
  return out.stream("shared gradient sum", OpKind::residual, kBack, p.tokens, 2 * p.h, p.h,
                    {sum, d_shared});
}

}  // namespace steploom
