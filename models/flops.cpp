#include "models/flops.h"

#include "models/parameters.h"

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

// Multiply-adds of one token against the half of the sequence that it sees on average.
double core_attention(const AttentionSpec& a, std::int64_t seq_length) {
  return real(a.heads) * real(a.head_dim + a.v_head_dim) * real(seq_length) / 2;
}

double feed_forward(const ModelSpec& m, bool is_moe) {
  const double h = real(m.hidden);
  if (!is_moe) return h * real(m.dense.width) * (m.dense.gated ? 3 : 2);
  const MoeSpec& moe = *m.moe;
  return h * real(moe.top_k * moe.expert.width + moe.shared_width) * (moe.expert.gated ? 3 : 2);
}

}  // namespace

double model_flops(const ModelSpec& m, const Workload& w) {
  double multiply_adds = real(m.hidden) * real(padded_vocab(m.vocab, 1));
  multiply_adds += real(m.layers) *
                   (projections(m.attention, m.hidden) + core_attention(m.attention, w.seq_length));
  for (const bool is_moe : m.layer_is_moe) multiply_adds += feed_forward(m, is_moe);
  constexpr double kFlopsPerMultiplyAdd = 2;
  constexpr double kForwardAndBackward = 3;
  return kForwardAndBackward * kFlopsPerMultiplyAdd * multiply_adds * real(w.tokens_per_step());
}

TokenWork token_work(const ModelSpec& m, std::int64_t seq_length) {
  const double attention =
      projections(m.attention, m.hidden) + core_attention(m.attention, seq_length);
  TokenWork work;
  for (const bool is_moe : m.layer_is_moe)
    work.layers.push_back(attention + feed_forward(m, is_moe));
  work.head = real(m.hidden) * real(padded_vocab(m.vocab, 1));
  return work;
}

}  // namespace steploom
