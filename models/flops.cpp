#include "models/flops.h"

#include "models/parameters.h"
#include "models/shapes.h"

namespace steploom {
namespace {

double real(std::int64_t n) {
  return static_cast<double>(n);
}

// Multiply-adds of one token in one layer's projections.
double projections(const AttentionSpec& a, std::int64_t hidden) {
  const double h = real(hidden);
  const double q = real(std::int64_t{a.heads} * a.head_dim);
  const double out = real(std::int64_t{a.heads} * a.v_head_dim);
  if (a.kind == AttentionKind::grouped_query) {
    const double kv = real(std::int64_t{a.kv_heads} * a.head_dim);
    return h * (q + 2 * kv) + out * h;
  }
  // Megatron counts one multiply-add for each latent element's norm.
  const double rq = real(a.q_lora_rank);
  const double rkv = real(a.kv_lora_rank);
  const double up = real(std::int64_t{a.heads} * (a.qk_nope_head_dim + a.v_head_dim));
  const double query = a.q_lora_rank == 0 ? h * q : rq * (h + q + 1);
  return query + rkv * (h + up + 1) + h * real(a.qk_rope_head_dim) + out * h;
}

// Multiply-adds of one token against the keys that it sees on average.
double core_attention(const ModelSpec& m, int layer, std::int64_t seq_length) {
  const AttentionSpec& a = m.attention;
  AttentionShape shape;
  shape.sequence = seq_length;
  shape.window = m.is_local(layer) ? a.window : 0;
  shape.chunked = a.chunked;
  shape.both_ways = a.both_ways;
  return real(a.heads) * real(a.head_dim + a.v_head_dim) * mean_keys(shape);
}

double feed_forward(const ModelSpec& m, int layer) {
  const double h = real(m.hidden);
  if (!m.is_moe(layer)) return h * real(m.dense.width) * (m.dense.gated ? 3 : 2);
  const MoeSpec& moe = *m.moe;
  return h * real(moe.top_k * moe.expert.width + moe.shared_width) * (moe.expert.gated ? 3 : 2);
}

}  // namespace

double model_flops(const ModelSpec& m, const Workload& w) {
  const double h = real(m.hidden);
  double multiply_adds = real(m.table_width()) * real(padded_vocab(m.vocab, 1));
  multiply_adds *= 1 + m.mtp_modules;
  if (m.embedding_width > 0) multiply_adds += 2 * h * real(m.embedding_width);
  const auto add_layer = [&](int layer) {
    multiply_adds += projections(m.attention, m.hidden) + core_attention(m, layer, w.seq_length) +
                     feed_forward(m, layer);
  };
  for (int layer = 0; layer < m.layers; ++layer) add_layer(layer);
  for (int module = 1; module <= m.mtp_modules; ++module) {
    add_layer(m.layers + module);
    multiply_adds += 2 * h * h + 3 * h;  // its projection; Megatron counts its norms too
  }
  constexpr double kFlopsPerMultiplyAdd = 2;
  constexpr double kForwardAndBackward = 3;
  return kForwardAndBackward * kFlopsPerMultiplyAdd * multiply_adds * real(w.tokens_per_step());
}

TokenWork token_work(const ModelSpec& m, std::int64_t seq_length) {
  TokenWork work;
  for (int layer = 0; layer < m.layers; ++layer)
    work.layers.push_back(projections(m.attention, m.hidden) +
                          core_attention(m, layer, seq_length) + feed_forward(m, layer));
  work.head = real(m.table_width()) * real(padded_vocab(m.vocab, 1));
  return work;
}

}  // namespace steploom
