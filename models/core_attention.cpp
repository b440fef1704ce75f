// Core attention of one layer, from q, k, v to the input of the output projection: one fused
// kernel, or the scores, their softmax, its dropout and the product with the values as kernels of
// their own (Megatron-LM of 2022, arXiv 2205.05198, section 4.1: 5·a·s²·b bytes a layer are saved
// between them). Unfused kernels work on the whole square.
#include "models/dropout.h"
#include "models/emitter.h"

namespace steploom {
namespace {

// The square of scores: every head of every sequence has `sequence` rows of `sequence`.
struct Square {
  std::int64_t heads, rows, width;
  Bytes elements() const { return rows * width; }
};

Square square_of(const AttentionShape& a) {
  const std::int64_t heads = a.sequences * a.heads;
  return {heads, heads * a.sequence, a.sequence};
}

// Batched over the heads: rows of `k` elements times a matrix k × n of each head. No factor stays,
// so every product of the backward pass is of this kind too.
Work per_head(const Emitter& out, Phase phase, const Square& q, std::int64_t n, std::int64_t k) {
  return batched_product(phase, out.c.kept(), q.heads, q.rows, n, k);
}

void unfused_forward(Emitter& out, const AttentionShape& a, AttentionSaved& saved) {
  const BuildContext& c = out.c;
  const Square q = square_of(a);
  const TensorId scores = out.tensor("attention scores", q.elements() * c.e);
  out.op("attention scores", per_head(out, Phase::forward, q, a.sequence, a.head_dim), {saved.qkv},
         {scores});
  saved.softmax = out.stream("attention softmax", OpKind::softmax, Phase::forward, q.rows, q.width,
                             q.width, {scores});
  saved.dropped =
      dropout(out, "attention dropout", q.rows, q.width, saved.softmax, saved.dropout_mask);
  out.op("attention over values", per_head(out, Phase::forward, q, a.v_head_dim, a.sequence),
         {saved.dropped, saved.qkv}, {saved.out});
}

void unfused_backward(Emitter& out, const AttentionShape& a, TensorId d_out,
                      const AttentionSaved& saved, TensorId dqkv) {
  const BuildContext& c = out.c;
  const Square q = square_of(a);
  const TensorId d_dropped = out.tensor("attention softmax gradient", q.elements() * c.e);
  out.op("attention over values", per_head(out, Phase::data_grad, q, a.sequence, a.v_head_dim),
         {d_out, saved.qkv}, {d_dropped});
  out.op("values gradient", per_head(out, Phase::data_grad, q, a.v_head_dim, a.sequence),
         {saved.dropped, d_out}, {dqkv});
  const TensorId d_softmax =
      dropout_backward(out, "attention dropout", q.rows, q.width, d_dropped, saved.dropout_mask);
  const TensorId d_scores = out.stream("attention softmax", OpKind::softmax, Phase::data_grad,
                                       q.rows, 2 * q.width, q.width, {d_softmax, saved.softmax});
  out.op("queries gradient", per_head(out, Phase::data_grad, q, a.head_dim, a.sequence),
         {d_scores, saved.qkv}, {dqkv});
  out.op("keys gradient", per_head(out, Phase::data_grad, q, a.head_dim, a.sequence),
         {d_scores, saved.qkv}, {dqkv});
}

}  // namespace

void core_attention_forward(Emitter& out, const AttentionShape& a, AttentionSaved& saved) {
  const BuildContext& c = out.c;
  if (c.layout.cp > 1) return context_attention_forward(out, a, saved);
  const std::int64_t tokens = a.sequence * a.sequences;
  saved.out = out.tensor("attention", tokens * a.heads * a.v_head_dim * c.e);
  if (!c.runtime.fused_attention) {
    unfused_forward(out, a, saved);
    return;
  }
  saved.log_sum = out.side("attention log-sum", tokens * a.heads * 4);
  out.op("attention", causal_attention(Phase::forward, c.kept(), a), {saved.qkv},
         {saved.out, saved.log_sum});
}

TensorId core_attention_backward(Emitter& out, const AttentionShape& a, TensorId d_out,
                                 AttentionSaved saved) {
  const BuildContext& c = out.c;
  if (c.layout.recompute == Recompute::selective &&
      c.layout.recompute_detail.has(RecomputeModule::core_attn)) {
    out.set_recompute(true);
    core_attention_forward(out, a, saved);
    out.set_recompute(false);
  }
  if (c.layout.cp > 1) return context_attention_backward(out, a, d_out, saved);
  const std::int64_t tokens = a.sequence * a.sequences;
  const std::int64_t width =
      std::int64_t{a.heads} * a.head_dim + std::int64_t{a.kv_heads} * (a.head_dim + a.v_head_dim);
  const TensorId dqkv = out.tensor("attention gradient", tokens * width * c.e);
  if (c.runtime.fused_attention)
    out.op("attention", causal_attention(Phase::data_grad, c.kept(), a),
           {d_out, saved.qkv, saved.out, saved.log_sum}, {dqkv});
  else
    unfused_backward(out, a, d_out, saved, dqkv);
  return dqkv;
}

}  // namespace steploom
