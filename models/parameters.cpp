#include "models/parameters.h"

#include <cassert>

namespace steploom {
namespace {

constexpr std::int64_t kVocabMultiple = 128;  // Megatron's --make-vocab-size-divisible-by

std::int64_t norm_parameters(const ModelSpec& m) {
  return m.norm_bias ? 2 * m.hidden : m.hidden;
}

std::int64_t ffn_matrices(const FfnSpec& f, std::int64_t hidden) {
  return (f.gated ? 3 : 2) * hidden * f.width;
}

// Of the products into the FFN's width; they are cut like that width.
std::int64_t ffn_inner_biases(const FfnSpec& f) {
  return f.bias ? (f.gated ? 2 : 1) * f.width : 0;
}

ParameterBuckets grouped_query_parameters(const AttentionSpec& a, std::int64_t h) {
  const std::int64_t q = std::int64_t{a.heads} * a.head_dim;
  const std::int64_t kv = std::int64_t{a.kv_heads} * a.head_dim;
  ParameterBuckets p;
  p.sharded = h * q + 2 * h * kv + q * h;
  if (a.qkv_bias) p.sharded += q + 2 * kv;
  if (a.out_bias) p.replicated += h;
  if (a.qk_norm && a.qk_gain) p.replicated += 2 * a.head_dim;
  if (a.sinks) p.sharded += a.heads;
  return p;
}

ParameterBuckets latent_parameters(const AttentionSpec& a, std::int64_t h) {
  const std::int64_t n = a.heads;
  const std::int64_t q = n * a.head_dim;
  const std::int64_t rq = a.q_lora_rank;
  const std::int64_t rkv = a.kv_lora_rank;
  ParameterBuckets p;
  // Up from the latents and out: cut by heads. Down to them, with a norm each: on every rank.
  p.sharded = rkv * n * (a.qk_nope_head_dim + a.v_head_dim) + n * a.v_head_dim * h;
  p.replicated = h * (rkv + a.qk_rope_head_dim) + rkv;
  if (rq == 0) {
    p.sharded += h * q;
  } else {
    p.sharded += rq * q;
    p.replicated += h * rq + rq;
  }
  return p;
}

ParameterBuckets moe_parameters(const MoeSpec& moe, std::int64_t h) {
  const std::int64_t down_bias = moe.expert.bias ? h : 0;
  ParameterBuckets p;
  p.experts =
      moe.experts * (ffn_matrices(moe.expert, h) + ffn_inner_biases(moe.expert) + down_bias);
  p.replicated = h * moe.experts + (moe.correction_bias ? moe.experts : 0);  // router
  if (moe.router_bias) p.replicated += moe.experts;
  if (moe.shared_gate) p.replicated += h;
  p.sharded = (moe.expert.gated ? 3 : 2) * h * moe.shared_width;
  return p;
}

}  // namespace

ParameterBuckets& ParameterBuckets::operator+=(const ParameterBuckets& o) {
  sharded += o.sharded;
  replicated += o.replicated;
  experts += o.experts;
  return *this;
}

ParameterBuckets attention_parameters(const ModelSpec& m) {
  return m.attention.kind == AttentionKind::latent
             ? latent_parameters(m.attention, m.hidden)
             : grouped_query_parameters(m.attention, m.hidden);
}

ParameterBuckets layer_parameters(const ModelSpec& m, int layer) {
  assert(layer >= 0 && layer != m.layers && layer <= m.layers + m.mtp_modules);
  ParameterBuckets p = attention_parameters(m);
  p.replicated += 2 * norm_parameters(m);
  if (layer > m.layers) {  // the projection of a module, norms of both its inputs and its output
    p.sharded += 2 * m.hidden * m.hidden;
    p.replicated += 3 * norm_parameters(m);
  }
  if (m.is_moe(layer)) {
    p += moe_parameters(*m.moe, m.hidden);
  } else {
    p.sharded += ffn_matrices(m.dense, m.hidden) + ffn_inner_biases(m.dense);
    if (m.dense.bias) p.replicated += m.hidden;
  }
  return p;
}

ParameterBuckets embedding_parameters(const ModelSpec& m) {
  const std::int64_t projection = m.embedding_width > 0 ? m.embedding_width * m.hidden : 0;
  return {.sharded = m.vocab * m.table_width(),
          .replicated = m.position_rows() * m.hidden + projection};
}

ParameterBuckets head_parameters(const ModelSpec& m) {
  const std::int64_t projection = m.embedding_width > 0 ? m.embedding_width * m.hidden : 0;
  return {.sharded = m.tied_embeddings ? 0 : m.vocab * m.table_width(),
          .replicated = (m.final_norm ? norm_parameters(m) : 0) + projection};
}

ParameterCount count_parameters(const ModelSpec& m) {
  ParameterBuckets p = embedding_parameters(m);
  p += head_parameters(m);
  for (int layer = 0; layer < m.layers; ++layer) p += layer_parameters(m, layer);
  for (int module = 1; module <= m.mtp_modules; ++module)
    p += layer_parameters(m, m.layers + module);
  const std::int64_t unused =
      m.has_moe() ? p.experts / m.moe->experts * (m.moe->experts - m.moe->top_k) : 0;
  return {.total = p.total(), .active = p.total() - unused};
}

std::int64_t padded_vocab(std::int64_t vocab, int tp) {
  const std::int64_t multiple = kVocabMultiple * tp;
  return (vocab + multiple - 1) / multiple * multiple;
}

}  // namespace steploom
