// A mixture-of-experts part, forward and backward: router, permute, dispatch, grouped expert
// products, combine, unpermute, shared expert.
//
// Megatron-Core's all-to-all dispatcher (moe/token_dispatcher.py): every rank routes its own shard
// of the tokens, permutes its shard·top_k rows into expert order, exchanges them over the
// expert-parallel group, gathers them over the expert-tensor-parallel group, and back. Routing is
// balanced, so every rank holds shard·top_k rows after the exchange.
#include "models/emitter.h"
#include "models/operands.h"

namespace steploom {
namespace {

struct MoeShape {
  std::int64_t h, rows, gathered, width, wide, experts, local, top_k;
};

MoeShape moe_shape(const BuildContext& c) {
  const MoeSpec& moe = *c.model.moe;
  MoeShape s{};
  s.h = c.model.hidden;
  s.rows = c.shard * moe.top_k;
  s.gathered = s.rows * c.layout.etp;
  s.width = moe.expert.width / c.layout.etp;
  s.wide = moe.expert.gated ? 2 * s.width : s.width;
  s.experts = moe.experts;
  s.local = moe.experts / c.layout.ep;
  s.top_k = moe.top_k;
  return s;
}

// `choices`: experts that a token is for.
Work choosing(OpKind kind, Phase phase, Precision p, std::int64_t m, std::int64_t n,
              std::int64_t choices, Bytes bytes) {
  Work w = streaming(kind, phase, p, m, n, bytes);
  w.k = choices;
  return w;
}

TensorId exchange(Emitter& out, std::string_view name, Phase phase, const MoeShape& s,
                  TensorId rows) {
  if (out.c.layout.ep == 1) return rows;
  const Bytes bytes = s.rows * s.h * out.c.e;
  return out.collective(name, OpKind::all_to_all, CommGroup::ep, StreamKind::ep, phase, bytes,
                        bytes, rows);
}

// Rows come from the exchange ordered by sender; several local experts want them ordered by expert.
TensorId sort_rows(Emitter& out, std::string_view name, Phase phase, const MoeShape& s,
                   TensorId rows) {
  if (s.local == 1 || (out.c.layout.ep == 1 && out.c.layout.etp == 1)) return rows;
  const Bytes bytes = s.gathered * s.h * out.c.e;
  const TensorId sorted = out.tensor(name, bytes);
  out.op(name,
         choosing(OpKind::permute, phase, out.c.work.precision, s.gathered, s.h, 1, 2 * bytes),
         {rows}, {sorted});
  return sorted;
}

TensorId gather_rows(Emitter& out, std::string_view name, Phase phase, const MoeShape& s,
                     TensorId rows) {
  if (out.c.layout.etp == 1) return rows;
  const Bytes bytes = s.gathered * s.h * out.c.e;
  return out.collective(name, OpKind::all_gather, CommGroup::etp, StreamKind::ep, phase, bytes,
                        bytes, rows);
}

TensorId scatter_rows(Emitter& out, std::string_view name, Phase phase, const MoeShape& s,
                      TensorId rows) {
  if (out.c.layout.etp == 1) return rows;
  const Bytes bytes = s.gathered * s.h * out.c.e;
  return out.collective(name, OpKind::reduce_scatter, CommGroup::etp, StreamKind::ep, phase, bytes,
                        bytes / out.c.layout.etp, rows);
}

TensorId to_experts(Emitter& out, Phase phase, const MoeShape& s, TensorId rows) {
  rows = exchange(out, phase == Phase::forward ? "dispatch" : "combine backward", phase, s, rows);
  rows = gather_rows(out, "expert input gather", phase, s, rows);
  return sort_rows(out, kSortByExpert, phase, s, rows);
}

TensorId from_experts(Emitter& out, Phase phase, const MoeShape& s, TensorId rows) {
  rows = sort_rows(out, kSortBySender, phase, s, rows);
  rows = scatter_rows(out, "expert output scatter", phase, s, rows);
  return exchange(out, phase == Phase::forward ? "combine" : "dispatch backward", phase, s, rows);
}

TensorId experts(Emitter& out, std::string_view name, Phase phase, const MoeShape& s,
                 std::int64_t n, std::int64_t k, TensorId x) {
  const Work w = grouped_product(phase, out.c.work.precision, s.local, s.gathered, n, k);
  const TensorId y = out.tensor(name, s.gathered * (phase == Phase::forward ? n : k) * out.c.e);
  out.op(name, w, {x}, {y});
  return y;
}

void experts_weight_grad(Emitter& out, std::string_view name, const MoeShape& s, std::int64_t n,
                         std::int64_t k, TensorId x, TensorId dy) {
  out.op(name, grouped_product(Phase::weight_grad, out.c.work.precision, s.local, s.gathered, n, k),
         {x, dy}, {out.expert_gradient()});
}

// The activated rows, from the hidden ones where the layout throws them away (moe_act; moe has run
// the whole part again).
TensorId activated_again(Emitter& out, const MoeShape& s, const MoeSaved& saved) {
  const Layout& l = out.c.layout;
  if (l.recompute != Recompute::selective || !l.recompute_detail.has(RecomputeModule::moe_act) ||
      l.recompute_detail.has(RecomputeModule::moe))
    return saved.activated;
  out.set_recompute(true);
  const TensorId activated = out.stream("experts activation", OpKind::activation, Phase::forward,
                                        s.gathered, s.wide, s.width, {saved.hidden});
  out.set_recompute(false);
  return activated;
}

}  // namespace

TensorId moe_forward(Emitter& out, TensorId normed, MoeSaved& saved) {
  const BuildContext& c = out.c;
  const MoeSpec& moe = *c.model.moe;
  const MoeShape s = moe_shape(c);
  TensorId shared = kNoTensor;
  if (moe.shared_width > 0)
    shared =
        ffn_forward(out, "shared expert", normed, moe.shared_width, moe.expert.gated, saved.shared);
  const TensorId logits = out.linear("router", normed, c.shard, s.experts, s.h);
  const bool complete = c.runtime.complete_operands;
  if (!complete) saved.scores = out.tensor("scores", c.shard * s.experts * 4);
  saved.chosen = out.side("chosen experts", s.rows * 4);
  saved.weight = out.side("expert weights", s.rows * 4);
  saved.position = out.side("row of a choice", s.rows * 4);
  saved.source = out.side("choice of a row", s.rows * 4);
  OpNode router;
  router.name = "router scores and top-k";
  router.work = choosing(
      OpKind::router, Phase::forward, c.work.precision, c.shard, s.experts, s.top_k,
      complete ? c.shard * s.experts * c.e + 16 * s.rows : c.shard * s.experts * (c.e + 4));
  router.host_waits = c.runtime.host_waits_for_routing;
  router.reads = {logits};
  router.writes = {saved.scores, saved.chosen, saved.weight, saved.position, saved.source};
  out.op(std::move(router));
  const TensorId permuted = out.tensor("permute", s.rows * s.h * c.e);
  out.op("permute",
         choosing(OpKind::permute, Phase::forward, c.work.precision, s.rows, s.h, s.top_k,
                  2 * s.rows * s.h * c.e),
         {normed, saved.scores, saved.source}, {permuted});
  saved.rows = to_experts(out, Phase::forward, s, permuted);
  saved.hidden = experts(out, "experts up", Phase::forward, s, s.wide, s.h, saved.rows);
  saved.activated = out.stream("experts activation", OpKind::activation, Phase::forward, s.gathered,
                               s.wide, s.width, {saved.hidden});
  const TensorId y = experts(out, "experts down", Phase::forward, s, s.h, s.width, saved.activated);
  saved.back = from_experts(out, Phase::forward, s, y);
  const std::int64_t extra = shared == kNoTensor ? 0 : s.h;
  const TensorId combined = out.tensor("unpermute", c.shard * s.h * c.e);
  const Work unpermute = choosing(OpKind::unpermute, Phase::forward, c.work.precision, c.shard, s.h,
                                  s.top_k, (s.rows * s.h + c.shard * (s.h + extra)) * c.e);
  out.op("unpermute", unpermute, {saved.back, saved.scores, saved.position, saved.weight, shared},
         {combined});
  return combined;
}

TensorId moe_backward(Emitter& out, TensorId dy, TensorId normed, const MoeSaved& saved) {
  const BuildContext& c = out.c;
  const MoeSpec& moe = *c.model.moe;
  const MoeShape s = moe_shape(c);
  const Precision p = c.work.precision;
  TensorId dx = kNoTensor;
  const TensorId d_back = out.tensor("unpermute gradient", s.rows * s.h * c.e);
  const bool complete = c.runtime.complete_operands;
  const TensorId d_weight = out.side("expert weights gradient", s.rows * 4);
  const int passes = complete ? 2 : 1;  // the weights' gradient needs the experts' outputs
  out.op("unpermute",
         choosing(OpKind::unpermute, Phase::data_grad, p, s.rows, s.h, s.top_k,
                  (passes * s.rows * s.h + c.shard * s.h) * c.e),
         {dy, complete ? saved.back : kNoTensor, saved.scores, saved.position, saved.weight,
          saved.source},
         {d_back, d_weight});
  const TensorId dy_rows = to_experts(out, Phase::data_grad, s, d_back);
  const TensorId activated = activated_again(out, s, saved);
  const TensorId d_act = experts(out, "experts down", Phase::data_grad, s, s.h, s.width, dy_rows);
  experts_weight_grad(out, "experts down", s, s.h, s.width, activated, dy_rows);
  const TensorId d_hidden = out.stream("experts activation", OpKind::activation, Phase::data_grad,
                                       s.gathered, s.wide + s.width, s.wide, {d_act, saved.hidden});
  const TensorId d_rows = experts(out, "experts up", Phase::data_grad, s, s.wide, s.h, d_hidden);
  experts_weight_grad(out, "experts up", s, s.wide, s.h, saved.rows, d_hidden);
  const TensorId home = from_experts(out, Phase::data_grad, s, d_rows);
  dx = out.tensor("permute gradient", c.shard * s.h * c.e);
  out.op("permute",
         choosing(OpKind::permute, Phase::data_grad, p, c.shard, s.h, s.top_k,
                  (s.rows * s.h + c.shard * s.h) * c.e),
         {home, saved.position}, {dx});
  const TensorId d_logits = out.tensor("router scores and top-k", c.shard * s.experts * c.e);
  out.op(
      "router scores and top-k",
      choosing(OpKind::router, Phase::data_grad, p, c.shard, s.experts, s.top_k,
               complete ? c.shard * s.experts * c.e + 12 * s.rows : 4 * c.shard * s.experts * c.e),
      {complete ? kNoTensor : home, saved.scores, d_weight, saved.weight, saved.chosen},
      {d_logits});
  const TensorId d_router = out.linear_data_grad("router", d_logits, c.shard, s.experts, s.h);
  out.linear_weight_grad("router", normed, d_logits, c.shard, s.experts, s.h);
  TensorId sum = out.stream("router gradient sum", OpKind::residual, Phase::data_grad, c.shard,
                            2 * s.h, s.h, {dx, d_router});
  if (moe.shared_width > 0) {
    const TensorId d_shared =
        ffn_backward(out, "shared expert", dy, moe.shared_width, moe.expert.gated, saved.shared);
    sum = out.stream("shared gradient sum", OpKind::residual, Phase::data_grad, c.shard, 2 * s.h,
                     s.h, {sum, d_shared});
  }
  return sum;
}

}  // namespace steploom
