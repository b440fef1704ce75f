// Core attention over context-parallel ranks, as Transformer Engine runs it
// (pytorch/attention/dot_product_attention/context_parallel.py).
//
// A causal sequence of S tokens is cut into 2·cp chunks; rank i holds chunks i and 2·cp − 1 − i, so
// that every rank has 1/cp of the pairs of query and key.
//
// p2p (Ring Attention, arXiv 2310.01889): cp steps on the keys and values at hand, those of the
// next step on their way beside it. The first step is causal attention over the rank's own S/cp
// tokens; in each other step half of the pairs are left, either all queries on half of the keys or
// half of the queries on all: 2·(S/2cp)² pairs, costed as two sequences of S/2cp tokens that see
// all of each other. The steps' outputs stay until all are there and are merged by their log-sums.
// Backward the keys and values go round again, and their gradients one step behind, cp − 1 hops
// each.
//
// allgather: keys and values of all ranks are gathered and put in order, forward and backward;
// backward their gradients are reduce-scattered.
//
// a2a (DeepSpeed-Ulysses, arXiv 2309.14509): q, k and v are exchanged, so that a rank has all
// tokens of 1/cp of its heads, and the output is exchanged back; each exchange has a copy before
// and after it, which bring what is sent together and the tokens in order.
#include <cassert>
#include <string>
#include <vector>

#include "models/emitter.h"

namespace steploom {
namespace {

constexpr CommGroup kGroup = CommGroup::cp;
constexpr StreamKind kStream = StreamKind::cp;

// Rows and widths (elements a row) of the rank's own tokens.
struct Own {
  std::int64_t rows, q, kv, out;
};

Own own_of(const Emitter& out, const AttentionShape& a) {
  return {out.c.tokens, std::int64_t{a.heads} * a.head_dim,
          std::int64_t{a.kv_heads} * (a.head_dim + a.v_head_dim),
          std::int64_t{a.heads} * a.v_head_dim};
}

Work attention_of(const Emitter& out, Phase phase, const AttentionShape& a) {
  return causal_attention(phase, out.c.kept(), a);
}

// Moves `read` and `written` elements for each of the rank's own tokens.
void pass_over(Emitter& out, std::string_view name, Phase phase, const Own& own, std::int64_t read,
               std::int64_t written, Emitter::Ids reads, Emitter::Ids writes) {
  out.op(name,
         streaming(OpKind::residual, phase, out.c.work.precision, own.rows, written,
                   own.rows * (read + written) * out.c.e),
         reads, writes);
}

// The pairs of a step: the first on the rank's own keys, the others on another rank's.
AttentionShape step_shape(const Emitter& out, AttentionShape a, int step) {
  a.sequence /= out.c.layout.cp;
  if (step == 0 || a.both_ways) return a;
  a.sequence /= 2;
  a.sequences *= 2;
  a.both_ways = true;
  return a;
}

void ring_forward(Emitter& out, const AttentionShape& a, const Own& own, AttentionSaved& saved) {
  const int steps = out.c.layout.cp;
  const Bytes kv_bytes = own.rows * own.kv * out.c.e;
  std::vector<TensorId> partial;
  TensorId kv = saved.qkv;
  for (int i = 0; i < steps; ++i) {
    const TensorId here = kv;
    if (i + 1 < steps)
      kv = out.collective("key-value ring", OpKind::send_recv, kGroup, kStream, Phase::forward,
                          kv_bytes, kv_bytes, here);
    partial.push_back(out.tensor("attention of a step", own.rows * own.out * out.c.e));
    out.op("attention", attention_of(out, Phase::forward, step_shape(out, a, i)), {saved.qkv, here},
           {partial.back(), i + 1 == steps ? saved.log_sum : kNoTensor});
  }
  for (int i = 0; i < steps; ++i)
    pass_over(out, "attention merge", Phase::forward, own, i == 0 ? own.out : 2 * own.out, own.out,
              {partial[static_cast<std::size_t>(i)], i == 0 ? kNoTensor : saved.out}, {saved.out});
}

TensorId ring_backward(Emitter& out, const AttentionShape& a, const Own& own, TensorId d_out,
                       const AttentionSaved& saved) {
  const int steps = out.c.layout.cp;
  const Bytes kv_bytes = own.rows * own.kv * out.c.e;
  const std::int64_t width = own.q + own.kv;
  const TensorId dqkv = out.tensor("attention gradient", own.rows * width * out.c.e);
  TensorId kv = saved.qkv;
  TensorId summed = kNoTensor;  // of keys and values, by the ranks before
  for (int i = 0; i < steps; ++i) {
    // Keys and values go on but in the last step, their gradients but in the first.
    const bool on = i + 1 < steps, back = i > 0;
    const Bytes moved = kv_bytes * ((on ? 1 : 0) + (back ? 1 : 0));
    OpNode ring;
    ring.name = "key-value ring";
    ring.work = communication(OpKind::send_recv, Phase::data_grad, moved);
    ring.group = kGroup;
    ring.stream = kStream;
    const TensorId here = kv, before = summed;
    kv = on ? out.tensor("keys and values", kv_bytes) : kNoTensor;
    const TensorId arrived = back ? out.tensor("key-value gradient", kv_bytes) : kNoTensor;
    ring.reads = {on ? here : kNoTensor, before};
    ring.writes = {kv, arrived};
    out.op(std::move(ring));
    const TensorId part = out.tensor("attention gradient of a step", own.rows * width * out.c.e);
    out.op("attention", attention_of(out, Phase::data_grad, step_shape(out, a, i)),
           {d_out, saved.qkv, here, saved.out, saved.log_sum}, {part});
    summed = on ? out.tensor("key-value gradient sum", kv_bytes) : kNoTensor;
    pass_over(out, "ring gradient sum", Phase::data_grad, own, (back ? 2 : 1) * width, width,
              {part, arrived, back ? dqkv : kNoTensor}, {dqkv, summed});
  }
  return dqkv;
}

// Keys and values of the whole sequence, in order.
TensorId all_keys(Emitter& out, const Own& own, TensorId qkv, Phase phase) {
  const int cp = out.c.layout.cp;
  const Bytes bytes = own.rows * own.kv * out.c.e * cp;
  const TensorId all = out.collective("key-value gather", OpKind::all_gather, kGroup, kStream,
                                      phase, bytes, bytes, qkv);
  const TensorId ordered = out.tensor("keys and values", bytes);
  pass_over(out, "key-value order", phase, own, cp * own.kv, cp * own.kv, {all}, {ordered});
  return ordered;
}

// This rank's part of the queries on all keys.
AttentionShape part_shape(const Emitter& out, AttentionShape a) {
  a.keys = a.sequence;
  a.sequence /= out.c.layout.cp;
  return a;
}

void gathered_forward(Emitter& out, const AttentionShape& a, const Own& own,
                      AttentionSaved& saved) {
  const TensorId kv = all_keys(out, own, saved.qkv, Phase::forward);
  out.op("attention", attention_of(out, Phase::forward, part_shape(out, a)), {saved.qkv, kv},
         {saved.out, saved.log_sum});
}

TensorId gathered_backward(Emitter& out, const AttentionShape& a, const Own& own, TensorId d_out,
                           const AttentionSaved& saved) {
  const std::int64_t all = own.kv * out.c.layout.cp;
  const Bytes bytes = own.rows * all * out.c.e;
  const TensorId kv = all_keys(out, own, saved.qkv, Phase::data_grad);
  const TensorId dqkv = out.tensor("attention gradient", own.rows * (own.q + own.kv) * out.c.e);
  const TensorId dkv = out.tensor("key-value gradient", bytes);
  out.op("attention", attention_of(out, Phase::data_grad, part_shape(out, a)),
         {d_out, saved.qkv, kv, saved.out, saved.log_sum}, {dqkv, dkv});
  const TensorId ordered = out.tensor("key-value gradient", bytes);
  pass_over(out, "key-value order", Phase::data_grad, own, all, all, {dkv}, {ordered});
  out.collective_into(dqkv, "key-value gradient scatter", OpKind::reduce_scatter, kGroup, kStream,
                      Phase::data_grad, bytes, ordered);
  return dqkv;
}

// Exchanges `width` elements of each of the rank's tokens.
TensorId exchange(Emitter& out, const char* name, Phase phase, const Own& own, std::int64_t width,
                  TensorId x) {
  const Bytes bytes = own.rows * width * out.c.e;
  const std::string of(name);
  const TensorId sent = out.tensor(of, bytes);
  pass_over(out, of + " order", phase, own, width, width, {x}, {sent});
  const TensorId arrived =
      out.collective(of, OpKind::all_to_all, kGroup, kStream, phase, bytes, bytes, sent);
  const TensorId ordered = out.tensor(of, bytes);
  pass_over(out, of + " order", phase, own, width, width, {arrived}, {ordered});
  return ordered;
}

// All tokens of this rank's share of the heads.
AttentionShape heads_shape(const Emitter& out, AttentionShape a) {
  a.heads /= out.c.layout.cp;
  a.kv_heads /= out.c.layout.cp;
  return a;
}

void exchanged_forward(Emitter& out, const AttentionShape& a, const Own& own,
                       AttentionSaved& saved) {
  saved.heads_qkv =
      exchange(out, "heads of q, k, v", Phase::forward, own, own.q + own.kv, saved.qkv);
  saved.heads_out = out.tensor("attention", own.rows * own.out * out.c.e);
  out.op("attention", attention_of(out, Phase::forward, heads_shape(out, a)), {saved.heads_qkv},
         {saved.heads_out, saved.log_sum});
  saved.out = exchange(out, "heads of attention", Phase::forward, own, own.out, saved.heads_out);
}

TensorId exchanged_backward(Emitter& out, const AttentionShape& a, const Own& own, TensorId d_out,
                            const AttentionSaved& saved) {
  const TensorId d_heads =
      exchange(out, "heads of attention gradient", Phase::data_grad, own, own.out, d_out);
  const std::int64_t width = own.q + own.kv;
  const TensorId dqkv = out.tensor("attention gradient", own.rows * width * out.c.e);
  out.op("attention", attention_of(out, Phase::data_grad, heads_shape(out, a)),
         {d_heads, saved.heads_qkv, saved.heads_out, saved.log_sum}, {dqkv});
  return exchange(out, "heads of q, k, v gradient", Phase::data_grad, own, width, dqkv);
}

}  // namespace

void context_attention_forward(Emitter& out, const AttentionShape& a, AttentionSaved& saved) {
  assert(out.c.runtime.fused_attention);
  const Own own = own_of(out, a);
  saved.log_sum = out.side("attention log-sum", own.rows * a.heads * 4);
  if (out.c.layout.cp_comm == ContextComm::a2a) return exchanged_forward(out, a, own, saved);
  saved.out = out.tensor("attention", own.rows * own.out * out.c.e);
  if (out.c.layout.cp_comm == ContextComm::p2p) return ring_forward(out, a, own, saved);
  gathered_forward(out, a, own, saved);
}

TensorId context_attention_backward(Emitter& out, const AttentionShape& a, TensorId d_out,
                                    const AttentionSaved& saved) {
  const Own own = own_of(out, a);
  switch (out.c.layout.cp_comm) {
    case ContextComm::p2p:
      return ring_backward(out, a, own, d_out, saved);
    case ContextComm::allgather:
      return gathered_backward(out, a, own, d_out, saved);
    case ContextComm::a2a:
      break;
  }
  return exchanged_backward(out, a, own, d_out, saved);
}

}  // namespace steploom
