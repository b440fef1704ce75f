// Attention of one layer, forward and backward: grouped-query and latent (MLA). Biases and sinks
// are part of the kernels that use them.
#include "models/emitter.h"

namespace steploom {
namespace {

AttentionShape core_shape(const Emitter& out) {
  const BuildContext& c = out.c;
  const AttentionSpec& a = c.model.attention;
  return {c.work.seq_length,
          c.layout.micro_batch,
          a.heads / c.layout.tp,
          a.kv_heads / c.layout.tp,
          a.head_dim,
          a.v_head_dim,
          c.model.is_local(out.layer()) ? a.window : 0,
          a.chunked,
          a.both_ways};
}

// Widths on one rank, in elements a token.
struct Widths {
  std::int64_t q, k, v, out;
  std::int64_t qkv() const { return q + k + v; }
};

Widths widths(const Emitter& out) {
  const AttentionShape s = core_shape(out);
  return {std::int64_t{s.heads} * s.head_dim, std::int64_t{s.kv_heads} * s.head_dim,
          std::int64_t{s.kv_heads} * s.v_head_dim, std::int64_t{s.heads} * s.v_head_dim};
}

// Projects the gathered, normed input to q, k, v of this rank's heads.
TensorId grouped_query_forward(Emitter& out, TensorId normed, const Widths& w) {
  const BuildContext& c = out.c;
  TensorId qkv =
      gathered_linear(out, {"qkv", "qkv input gather", w.qkv(), c.model.hidden}, normed, true);
  const bool turns = c.model.turns_queries(out.layer());
  if (c.model.attention.qk_norm && turns)
    qkv = out.stream("qk norm", OpKind::norm, Phase::forward, c.tokens, w.qkv(), w.qkv(), {qkv});
  if (c.model.attention.rotary && turns)
    qkv = out.stream("rotary", OpKind::rotary, Phase::forward, c.tokens, w.qkv(), w.qkv(), {qkv});
  return qkv;
}

TensorId grouped_query_backward(Emitter& out, TensorId dqkv, TensorId normed, const Widths& w) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  const bool turns = c.model.turns_queries(out.layer());
  if (c.model.attention.rotary && turns)
    dqkv =
        out.stream("rotary", OpKind::rotary, Phase::data_grad, c.tokens, w.qkv(), w.qkv(), {dqkv});
  if (c.model.attention.qk_norm && turns)
    dqkv = out.stream("qk norm", OpKind::norm, Phase::data_grad, c.tokens, 2 * w.qkv(), w.qkv(),
                      {dqkv});
  return gathered_backward(out, {"qkv", "qkv input gather", w.qkv(), h},
                           "qkv input gradient reduce", normed, dqkv);
}

// MLA (DeepSeek-V2, arXiv 2405.04434, section 2.1; Megatron-Core's multi_latent_attention): the
// down projections are on every tensor-parallel rank and work on sequence shards; the latents are
// gathered before the up projections, whose heads are sharded.
//
// q of this rank's heads, from the latent or, without one, from the normed input.
TensorId latent_q(Emitter& out, const Widths& w, AttentionSaved& saved) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden, rank = c.model.attention.q_lora_rank;
  if (rank == 0)
    return out.linear("q", out.gather("q input gather", saved.normed, h, Phase::forward), c.tokens,
                      w.q, h);
  saved.q_latent = out.stream("q latent norm", OpKind::norm, Phase::forward, c.shard, rank, rank,
                              {saved.q_down});
  return out.linear("q up", out.gather("q latent gather", saved.q_latent, rank, Phase::forward),
                    c.tokens, w.q, rank);
}

// Keys and values from theirs, and all three put together.
TensorId latent_qkv(Emitter& out, TensorId q, const Widths& w, AttentionSaved& saved) {
  const BuildContext& c = out.c;
  const AttentionSpec& a = c.model.attention;
  const std::int64_t kv_width = a.kv_lora_rank + a.qk_rope_head_dim;
  const std::int64_t up_width =
      std::int64_t{a.heads / c.layout.tp} * (a.qk_nope_head_dim + a.v_head_dim);
  saved.kv_latent = out.stream("kv latent norm", OpKind::norm, Phase::forward, c.shard, kv_width,
                               kv_width, {saved.kv_down});
  const TensorId latent = out.gather("kv latent gather", saved.kv_latent, kv_width, Phase::forward);
  const TensorId kv = out.linear("kv up", latent, c.tokens, up_width, a.kv_lora_rank);
  // Rotary on the shared key and on q's rope part, and the copy into whole q, k, v.
  return out.stream("rotary", OpKind::rotary, Phase::forward, c.tokens,
                    w.q + up_width + a.qk_rope_head_dim, w.qkv(), {q, kv, latent});
}

TensorId latent_forward(Emitter& out, const Widths& w, AttentionSaved& saved) {
  const BuildContext& c = out.c;
  const AttentionSpec& a = c.model.attention;
  const std::int64_t h = c.model.hidden;
  if (a.q_lora_rank > 0)
    saved.q_down = out.linear("q down", saved.normed, c.shard, a.q_lora_rank, h);
  const TensorId q = latent_q(out, w, saved);
  saved.kv_down =
      out.linear("kv down", saved.normed, c.shard, a.kv_lora_rank + a.qk_rope_head_dim, h);
  return latent_qkv(out, q, w, saved);
}

// Where the layout keeps the latents alone: q, k, v once more, before the backward pass of what
// read them.
void latent_again(Emitter& out, const Widths& w, AttentionSaved& saved) {
  const Layout& l = out.c.layout;
  if (l.recompute != Recompute::selective || !l.recompute_detail.has(RecomputeModule::mla_up_proj))
    return;
  out.set_recompute(true);
  saved.qkv = latent_qkv(out, latent_q(out, w, saved), w, saved);
  out.set_recompute(false);
}

TensorId latent_backward(Emitter& out, TensorId dqkv, const AttentionSaved& saved,
                         const Widths& w) {
  const BuildContext& c = out.c;
  const AttentionSpec& a = c.model.attention;
  const std::int64_t h = c.model.hidden;
  const std::int64_t kv_width = a.kv_lora_rank + a.qk_rope_head_dim;
  const std::int64_t up_width =
      std::int64_t{a.heads / c.layout.tp} * (a.qk_nope_head_dim + a.v_head_dim);
  dqkv = out.stream("rotary", OpKind::rotary, Phase::data_grad, c.tokens, w.qkv(),
                    w.q + up_width + a.qk_rope_head_dim, {dqkv});

  const TensorId kv_latent =
      out.gather("kv latent gather", saved.kv_latent, kv_width, Phase::weight_grad);
  TensorId dkv = out.linear_data_grad("kv up", dqkv, c.tokens, up_width, a.kv_lora_rank);
  dkv = out.reduce("kv latent gradient reduce", dkv, kv_width, Phase::data_grad);
  out.linear_weight_grad("kv up", kv_latent, dqkv, c.tokens, up_width, a.kv_lora_rank);
  const TensorId dkv_down = out.stream("kv latent norm", OpKind::norm, Phase::data_grad, c.shard,
                                       2 * kv_width, kv_width, {dkv, saved.kv_down});
  const TensorId dx_kv = out.linear_data_grad("kv down", dkv_down, c.shard, kv_width, h);
  out.linear_weight_grad("kv down", saved.normed, dkv_down, c.shard, kv_width, h);

  TensorId dx_q;
  if (a.q_lora_rank > 0) {
    const TensorId latent =
        out.gather("q latent gather", saved.q_latent, a.q_lora_rank, Phase::weight_grad);
    TensorId dq = out.linear_data_grad("q up", dqkv, c.tokens, w.q, a.q_lora_rank);
    dq = out.reduce("q latent gradient reduce", dq, a.q_lora_rank, Phase::data_grad);
    out.linear_weight_grad("q up", latent, dqkv, c.tokens, w.q, a.q_lora_rank);
    const TensorId down =
        out.stream("q latent norm", OpKind::norm, Phase::data_grad, c.shard,
                   2 * std::int64_t{a.q_lora_rank}, a.q_lora_rank, {dq, saved.q_down});
    dx_q = out.linear_data_grad("q down", down, c.shard, a.q_lora_rank, h);
    out.linear_weight_grad("q down", saved.normed, down, c.shard, a.q_lora_rank, h);
  } else {
    const TensorId x = out.gather("q input gather", saved.normed, h, Phase::weight_grad);
    const TensorId dq = out.linear_data_grad("q", dqkv, c.tokens, w.q, h);
    dx_q = out.reduce("q input gradient reduce", dq, h, Phase::data_grad);
    out.linear_weight_grad("q", x, dqkv, c.tokens, w.q, h);
  }
  return out.stream("latent gradient sum", OpKind::residual, Phase::data_grad, c.shard, 2 * h, h,
                    {dx_q, dx_kv});
}

}  // namespace

TensorId attention_forward(Emitter& out, TensorId x, AttentionSaved& saved) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  const Widths w = widths(out);
  saved.input = x;
  saved.normed = out.norm("attention norm", c.shard, h, x, saved.norm);
  saved.qkv = c.model.attention.kind == AttentionKind::latent
                  ? latent_forward(out, w, saved)
                  : grouped_query_forward(out, saved.normed, w);
  core_attention_forward(out, core_shape(out), saved);
  return linear_reduced(out, {"attention out", "attention out reduce", h, w.out}, saved.out);
}

TensorId attention_backward(Emitter& out, TensorId dy, AttentionSaved saved) {
  const BuildContext& c = out.c;
  const std::int64_t h = c.model.hidden;
  const Widths w = widths(out);
  TensorId full = kNoTensor;
  const TensorId d_out = gathered_data_grad(
      out, {"attention out", "attention out gradient gather", h, w.out}, dy, full);
  out.linear_weight_grad("attention out", saved.out, full, c.tokens, h, w.out);
  if (c.model.attention.kind == AttentionKind::latent) latent_again(out, w, saved);
  const TensorId dqkv = core_attention_backward(out, core_shape(out), d_out, saved);
  const TensorId dx = c.model.attention.kind == AttentionKind::latent
                          ? latent_backward(out, dqkv, saved, w)
                          : grouped_query_backward(out, dqkv, saved.normed, w);
  return out.norm_backward("attention norm", c.shard, h, dx, saved.input, saved.norm);
}

}  // namespace steploom
