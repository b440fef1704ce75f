#include "profiler/attention.h"

namespace steploom {

AttentionLayout packed_layout(const AttentionShape& a) {
  const std::int64_t row =
      std::int64_t{a.heads} * a.head_dim + std::int64_t{a.kv_heads} * (a.head_dim + a.v_head_dim);
  return {{row, a.head_dim},
          {row, a.head_dim},
          {row, a.v_head_dim},
          {std::int64_t{a.heads} * a.v_head_dim, a.v_head_dim}};
}

AttentionTensors packed_tensors(const AttentionShape& a, const Bf16* qkv, Bf16* out, float* lse,
                                const Bf16* d_out, Bf16* dqkv) {
  const std::int64_t k = std::int64_t{a.heads} * a.head_dim;
  const std::int64_t v = k + std::int64_t{a.kv_heads} * a.head_dim;
  AttentionTensors t;
  t.q = qkv;
  t.k = qkv + k;
  t.v = qkv + v;
  t.out = out;
  t.lse = lse;
  t.d_out = d_out;
  if (dqkv != nullptr) {
    t.dq = dqkv;
    t.dk = dqkv + k;
    t.dv = dqkv + v;
  }
  return t;
}

}  // namespace steploom
