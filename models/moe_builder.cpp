// A mixture-of-experts part, forward and backward: router, permute, dispatch, grouped expert
// products, combine, unpermute, shared expert.
//
// Megatron-Core's all-to-all dispatcher (moe/token_dispatcher.py): every rank routes its own shard
// of the tokens, permutes its shard·top_k rows into expert order, exchanges them over the
// expert-parallel group, gathers them over the expert-tensor-parallel group, and back. Shapes are
// those of balanced routing, where every rank holds shard·top_k rows after the exchange; operators
// that work on these rows are marked `routed`.
//
// In chunks (Tutel, arXiv 2206.03382; PipeMoE) the permuted rows lie chunk by chunk, each with an
// equal part of every expert's capacity, and a chunk is exchanged while others are computed. All
// dispatches are issued first, so that no combine holds one up on their stream; a shared expert
// comes behind them, beside the first. The backward pass does the same the other way round and
// issues the experts' weight gradients after the data gradients of all chunks, beside the last
// exchange.
//
// In pairwise steps (FasterMoE's smart schedule, PPoPP'22; FastMoE,
// cuda/fastermoe/smart_schedule.h) the ranks of the exchange lie in groups of neighbours. In step i
// a rank sends the rows for the i-th group behind its own and gets those of the i-th before it, its
// own group first; outputs go back the same ways in the same order. What a step brings is computed
// as it comes. On the streams the order is the paper's: all S_i, the steps of the dispatch, then
// all R_i, those of the combine, on one; all C_i on the other, each between its S_i and R_i. In the
// backward pass C_i holds the weight gradients of its rows too, as autograd runs them there.
//
// With DeepEP's dispatcher (moe/token_dispatcher.py, MoEFlexTokenDispatcher) tokens are sent as
// they are, once to each rank that they have an expert on, and permuted into expert order there;
// outputs are summed for each rank before they go back, and come home as one row a token.
#include <cmath>
#include <vector>

#include "models/capacity_experts.h"
#include "models/emitter.h"
#include "models/operands.h"
#include "models/visits.h"

namespace steploom {
namespace {

struct MoeShape {
  std::int64_t h, rows, gathered, width, wide, experts, local, top_k;  // rows: of all chunks
  int chunks;     // parts that are exchanged and computed one after the other
  bool pairwise;  // a part is what one step of an exchange between pairs of groups brings
  bool deepep;
  std::int64_t tokens, brought;  // of the rank; rows that the exchange brings to it
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
  s.chunks = c.layout.expert_parts();
  s.pairwise = c.layout.pairwise > 1;
  s.deepep = c.layout.dispatcher == Dispatcher::deepep;
  s.tokens = c.shard;
  s.brought = s.rows;
  if (s.deepep)
    s.brought = static_cast<std::int64_t>(
        std::ceil(static_cast<double>(c.shard) *
                  places_visited(c.layout.ep, moe.experts, static_cast<int>(s.top_k))));
  return s;
}

MoeShape one_chunk(MoeShape s) {
  s.rows /= s.chunks;
  s.gathered /= s.chunks;
  return s;
}

// The rows of a rank in the order of the permutation: one tensor, in chunks a slice each.
TensorId permuted_rows(Emitter& out, std::string_view name, const MoeShape& s) {
  const Bytes bytes = s.rows * s.h * out.c.e;
  return s.chunks == 1 ? out.tensor(name, bytes) : out.sliced(name, bytes, s.chunks);
}
TensorId chunk_of(const MoeShape& s, TensorId rows, int chunk) {
  return s.chunks == 1 ? rows : rows + 1 + static_cast<TensorId>(chunk);
}

// `choices`: experts that a token is for.
Work choosing(OpKind kind, Phase phase, Precision p, std::int64_t m, std::int64_t n,
              std::int64_t choices, Bytes bytes) {
  Work w = streaming(kind, phase, p, m, n, bytes);
  w.k = choices;
  return w;
}

// The last step of a way into `to`, or into a new tensor if that is kNoTensor; its kind and group.
TensorId move_rows(Emitter& out, std::string_view name, OpKind kind, CommGroup group, Phase phase,
                   Bytes bytes, Bytes result, TensorId rows, TensorId to) {
  if (to == kNoTensor)
    return out.collective(name, kind, group, StreamKind::ep, phase, bytes, result, rows);
  out.collective_into(to, name, kind, group, StreamKind::ep, phase, bytes, rows);
  return to;
}

// `scores`: what says where the rows go.
TensorId exchange_by_deepep(Emitter& out, std::string_view name, Phase phase, const MoeShape& s,
                            ExpertExchange way, TensorId rows, TensorId scores = kNoTensor) {
  const BuildContext& c = out.c;
  const Bytes row = s.h * c.e, brought = s.brought * row;
  const TensorId y = out.tensor(name, way == ExpertExchange::dispatch ? brought : s.tokens * row);
  OpNode node;
  node.name = name;
  node.work = expert_exchange(way, phase, c.work.precision, s.tokens, s.h, s.experts, s.top_k,
                              c.work.routing.nodes, brought);
  node.group = CommGroup::ep;
  node.stream = StreamKind::ep;
  node.reads = {rows, scores};
  node.writes = {y};
  out.op(std::move(node));
  return y;
}

// Of the i-th chunk.
TensorId exchange(Emitter& out, std::string_view name, Phase phase, const MoeShape& s, int i,
                  TensorId rows, TensorId to = kNoTensor) {
  if (out.c.layout.ep == 1) return rows;
  const Bytes bytes = s.rows * s.h * out.c.e;
  if (s.pairwise) {
    OpNode node;
    node.name = name;
    node.work = exchange_step(phase, bytes * s.chunks, i, s.chunks);
    node.group = CommGroup::ep;
    node.stream = StreamKind::ep;
    node.reads = {rows};
    node.writes = {to == kNoTensor ? out.tensor(name, bytes) : to};
    const TensorId y = node.writes.front();
    out.set_parts(1);  // of no whole that an all-to-all's curve knows
    out.op(std::move(node));
    out.set_parts(s.chunks);
    return y;
  }
  return move_rows(out, name, OpKind::all_to_all, CommGroup::ep, phase, bytes, bytes, rows, to);
}

// Rows come from the exchange ordered by sender; several local experts want them ordered by expert.
// DeepEP brings one of a token for all of them.
TensorId sort_rows(Emitter& out, std::string_view name, Phase phase, const MoeShape& s,
                   TensorId rows) {
  if (s.deepep) {
    const Bytes row = s.h * out.c.e;
    const TensorId sorted =
        out.tensor(name, (name == kSortByExpert ? s.gathered : s.brought) * row);
    out.op(name,
           choosing(OpKind::permute, phase, out.c.work.precision, s.gathered, s.h, 1,
                    (s.gathered + s.brought) * row),
           {rows}, {sorted});
    return sorted;
  }
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
                      TensorId rows, TensorId to) {
  if (out.c.layout.etp == 1) return rows;
  const Bytes bytes = s.gathered * s.h * out.c.e;
  return move_rows(out, name, OpKind::reduce_scatter, CommGroup::etp, phase, bytes,
                   bytes / out.c.layout.etp, rows, to);
}

// What is exchanged on the way to the experts, and what is sorted there.
TensorId bring(Emitter& out, Phase phase, const MoeShape& s, int i, TensorId rows,
               TensorId scores) {
  const std::string_view name = phase == Phase::forward ? "dispatch" : "combine backward";
  if (s.deepep)
    return exchange_by_deepep(out, name, phase, s, ExpertExchange::dispatch, rows, scores);
  rows = exchange(out, name, phase, s, i, rows);
  return gather_rows(out, "expert input gather", phase, s, rows);
}

// Back again, in the end into `to` (kNoTensor: a new tensor).
TensorId from_experts(Emitter& out, Phase phase, const MoeShape& s, int i, TensorId rows,
                      TensorId to) {
  const std::string_view name = phase == Phase::forward ? "combine" : "dispatch backward";
  rows = sort_rows(out, kSortBySender, phase, s, rows);
  if (s.deepep) {
    rows = exchange_by_deepep(out, name, phase, s, ExpertExchange::combine, rows);
  } else {
    rows = scatter_rows(out, "expert output scatter", phase, s, rows,
                        out.c.layout.ep == 1 ? to : kNoTensor);
    rows = exchange(out, name, phase, s, i, rows, to);
  }
  out.at_home(rows);
  return rows;
}

TensorId experts(Emitter& out, std::string_view name, Phase phase, const MoeShape& s,
                 std::int64_t n, std::int64_t k, TensorId x) {
  const Work w = grouped_product(phase, out.c.products, s.local, s.gathered, n, k);
  const TensorId y = out.tensor(name, s.gathered * (phase == Phase::forward ? n : k) * out.c.e);
  out.op(name, w, {out.narrowed(name, phase, x, s.gathered, phase == Phase::forward ? k : n)}, {y});
  return y;
}

void experts_weight_grad(Emitter& out, std::string_view name, const MoeShape& s, std::int64_t n,
                         std::int64_t k, TensorId x, TensorId dy) {
  out.op(name, grouped_product(Phase::weight_grad, out.c.products, s.local, s.gathered, n, k),
         {x, dy}, {out.expert_gradient()});
}

// The activated rows, from the hidden ones where the layout throws them away (moe_act; moe has run
// the whole part again).
TensorId activated_again(Emitter& out, const MoeShape& s, const ExpertRows& rows) {
  const Layout& l = out.c.layout;
  if (l.recompute != Recompute::selective || !l.recompute_detail.has(RecomputeModule::moe_act) ||
      l.recompute_detail.has(RecomputeModule::moe))
    return rows.activated;
  out.set_recompute(true);
  const TensorId activated = out.stream("experts activation", OpKind::activation, Phase::forward,
                                        s.gathered, s.wide, s.width, {rows.hidden});
  out.set_recompute(false);
  return activated;
}

// From the permuted rows to those that come home, saved.back. `beside`: what is issued once all
// dispatches are.
template <class Beside>
void experts_forward(Emitter& out, const MoeShape& all, TensorId permuted, const Beside& beside,
                     MoeSaved& saved) {
  const MoeShape s = one_chunk(all);
  out.set_routed(true);
  out.set_parts(s.chunks);
  std::vector<TensorId> brought;
  for (int i = 0; i < s.chunks; ++i)
    brought.push_back(bring(out, Phase::forward, s, i, chunk_of(s, permuted, i), saved.scores));
  out.set_parts(1);
  if (s.chunks > 1) {
    out.set_routed(false);
    beside();
    saved.back = permuted_rows(out, "combine", all);
    out.set_routed(true);
  }
  out.set_parts(s.chunks);
  for (int i = 0; i < s.chunks; ++i) {
    ExpertRows e;
    e.rows = sort_rows(out, kSortByExpert, Phase::forward, s, brought[static_cast<std::size_t>(i)]);
    e.hidden = experts(out, "experts up", Phase::forward, s, s.wide, s.h, e.rows);
    e.activated = out.stream("experts activation", OpKind::activation, Phase::forward, s.gathered,
                             s.wide, s.width, {e.hidden});
    const TensorId y = experts(out, "experts down", Phase::forward, s, s.h, s.width, e.activated);
    const TensorId to = s.chunks == 1 ? kNoTensor : chunk_of(s, saved.back, i);
    const TensorId home = from_experts(out, Phase::forward, s, i, y, to);
    if (s.chunks == 1) saved.back = home;
    saved.chunks.push_back(e);
  }
  out.set_parts(1);
  out.set_routed(false);
}

// From the gradients of those rows to the gradients of the permuted ones.
template <class Beside>
TensorId experts_backward(Emitter& out, const MoeShape& all, TensorId d_back, const Beside& beside,
                          const MoeSaved& saved) {
  const MoeShape s = one_chunk(all);
  const bool cut = s.chunks > 1;
  const bool later = cut && !s.pairwise;  // weight gradients
  out.set_routed(true);
  out.set_parts(s.chunks);
  std::vector<TensorId> brought;
  for (int i = 0; i < s.chunks; ++i)
    brought.push_back(bring(out, Phase::data_grad, s, i, chunk_of(s, d_back, i), kNoTensor));
  out.set_parts(1);
  TensorId home = kNoTensor;
  if (cut) {
    out.set_routed(false);
    beside();
    home = permuted_rows(out, "dispatch backward", all);
    out.set_routed(true);
  }
  out.set_parts(s.chunks);
  std::vector<TensorId> dy_rows, d_hidden, activated;
  const auto down = [&](std::size_t i) {
    experts_weight_grad(out, "experts down", s, s.h, s.width, activated[i], dy_rows[i]);
  };
  const auto up = [&](std::size_t i) {
    experts_weight_grad(out, "experts up", s, s.wide, s.h, saved.chunks[i].rows, d_hidden[i]);
  };
  for (std::size_t i = 0; i < brought.size(); ++i) {
    dy_rows.push_back(sort_rows(out, kSortByExpert, Phase::data_grad, s, brought[i]));
    activated.push_back(activated_again(out, s, saved.chunks[i]));
    const TensorId d_act =
        experts(out, "experts down", Phase::data_grad, s, s.h, s.width, dy_rows[i]);
    if (!later) down(i);
    d_hidden.push_back(out.stream("experts activation", OpKind::activation, Phase::data_grad,
                                  s.gathered, s.wide + s.width, s.wide,
                                  {d_act, saved.chunks[i].hidden}));
    const TensorId d_rows =
        experts(out, "experts up", Phase::data_grad, s, s.wide, s.h, d_hidden[i]);
    if (!later) up(i);
    const auto chunk = static_cast<int>(i);
    const TensorId to = cut ? chunk_of(s, home, chunk) : kNoTensor;
    const TensorId back = from_experts(out, Phase::data_grad, s, chunk, d_rows, to);
    if (!cut) home = back;
  }
  for (std::size_t i = 0; later && i < brought.size(); ++i) {
    down(i);
    up(i);
  }
  out.set_parts(1);
  out.set_routed(false);
  return home;
}

}  // namespace

TensorId moe_forward(Emitter& out, TensorId normed, MoeSaved& saved) {
  const BuildContext& c = out.c;
  if (c.runtime.capacity_factor > 0) return capacity_moe_forward(out, normed, saved);
  const MoeSpec& moe = *c.model.moe;
  const MoeShape s = moe_shape(c);
  TensorId shared = kNoTensor;
  const auto shared_expert = [&] {
    if (moe.shared_width > 0) shared = shared_expert_forward(out, normed, saved);
  };
  if (s.chunks == 1) shared_expert();
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
  if (s.deepep) {
    experts_forward(out, s, normed, shared_expert, saved);
    if (shared == kNoTensor) return saved.back;
    return out.stream("shared expert sum", OpKind::residual, Phase::forward, c.shard, 2 * s.h, s.h,
                      {saved.back, shared});
  }
  const TensorId permuted = permuted_rows(out, "permute", s);
  out.op("permute",
         choosing(OpKind::permute, Phase::forward, c.work.precision, s.rows, s.h, s.top_k,
                  2 * s.rows * s.h * c.e),
         {normed, saved.scores, saved.source}, {permuted});
  experts_forward(out, s, permuted, shared_expert, saved);
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
  if (c.runtime.capacity_factor > 0) return capacity_moe_backward(out, dy, normed, saved);
  const MoeSpec& moe = *c.model.moe;
  const MoeShape s = moe_shape(c);
  const Precision p = c.work.precision;
  TensorId dx = kNoTensor;
  const TensorId d_back = s.deepep ? dy : permuted_rows(out, "unpermute gradient", s);
  const bool complete = c.runtime.complete_operands;
  const TensorId d_weight = out.side("expert weights gradient", s.rows * 4);
  const int passes = complete ? 2 : 1;  // the weights' gradient needs the experts' outputs
  if (!s.deepep)
    out.op("unpermute",
           choosing(OpKind::unpermute, Phase::data_grad, p, s.rows, s.h, s.top_k,
                    (passes * s.rows * s.h + c.shard * s.h) * c.e),
           {dy, complete ? saved.back : kNoTensor, saved.scores, saved.position, saved.weight,
            saved.source},
           {d_back, d_weight});
  TensorId d_shared = kNoTensor;
  const auto shared_expert = [&] {
    if (moe.shared_width > 0) d_shared = shared_expert_backward(out, dy, normed, saved);
  };
  const TensorId home = experts_backward(out, s, d_back, shared_expert, saved);
  dx = home;
  if (!s.deepep) {
    dx = out.tensor("permute gradient", c.shard * s.h * c.e);
    out.op("permute",
           choosing(OpKind::permute, Phase::data_grad, p, c.shard, s.h, s.top_k,
                    (s.rows * s.h + c.shard * s.h) * c.e),
           {home, saved.position}, {dx});
  }
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
    if (s.chunks == 1) shared_expert();
    sum = out.stream("shared gradient sum", OpKind::residual, Phase::data_grad, c.shard, 2 * s.h,
                     s.h, {sum, d_shared});
  }
  return sum;
}

}  // namespace steploom
