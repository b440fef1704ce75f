// From shapes to Works: FLOPs and bytes of each kind of operator.
//
// A product counts 2·m·n·k FLOPs. Causal attention counts half of the full square, as a fused
// kernel executes it: S²·(d_qk + d_v) per head and sequence forward; backward five products in
// place of two, 2.5 times that (FlashAttention-2, arXiv 2307.08691, section 3.1). A window of w
// tokens counts 2·S·w − w² in place of S², chunks of c tokens the sum of their squares, attention
// both ways 2·S². Bytes are what an ideal kernel moves once.
#pragma once

#include <cstdint>

#include "models/work.h"

namespace steploom {

// The product y = x·W of m rows, k inputs, n outputs in one phase; see Work for the shapes that the
// backward phases carry.
Work product(Phase phase, Precision p, std::int64_t m, std::int64_t n, std::int64_t k);

// A weight gradient as a tensor of its own (Work::fresh).
Work as_fresh(Work weight_gradient);

// product(), for `groups` experts that share the m rows evenly, each with its own k × n weights.
Work grouped_product(Phase phase, Precision p, std::int64_t groups, std::int64_t m, std::int64_t n,
                     std::int64_t k);

// `heads` products of their own, of m rows in all: (m/heads × k) · (k × n) each, in the elements of
// `p`. The backward phase of one is two others of this kind.
Work batched_product(Phase phase, Precision p, std::int64_t heads, std::int64_t m, std::int64_t n,
                     std::int64_t k);

struct AttentionShape {
  std::int64_t sequence = 0;   // tokens
  std::int64_t sequences = 0;  // in the micro-batch
  int heads = 0;               // on this rank
  int kv_heads = 0;            // on this rank
  int head_dim = 0;
  int v_head_dim = 0;
  std::int64_t window = 0;  // tokens that a query sees; 0, or the sequence and more: all
  bool chunked = false;
  bool both_ways = false;
  std::int64_t keys = 0;  // more than `sequence`: tokens of the whole that the queries are part of
};
// Keys that a query sees on average, counted as above: S/2 where it sees all up to its own, S where
// it sees those after it too.
double mean_keys(const AttentionShape& a);
AttentionShape attention_shape(const Work& attention);

Work causal_attention(Phase phase, Precision p, const AttentionShape& a);

// A memory-bound kernel over m rows of width n that moves `bytes`.
Work streaming(OpKind kind, Phase phase, Precision p, std::int64_t m, std::int64_t n, Bytes bytes);

// A collective or a message; bytes as nccl-tests counts them.
Work communication(OpKind kind, Phase phase, Bytes bytes);

// Rows of `tokens` go to experts or come back by kernels of their own; the rest as Work has it.
Work expert_exchange(ExpertExchange way, Phase phase, Precision p, std::int64_t tokens,
                     std::int64_t width, std::int64_t experts, std::int64_t choices, int node_limit,
                     Bytes bytes);

// Step `step` of `steps` of a group-wise exchange in which a rank sends `bytes` in all.
Work exchange_step(Phase phase, Bytes bytes, int step, int steps);

// The work that `part` is one of `parts` equal parts of, cut along its rows (tokens), attention
// along its sequences.
Work joined(const Work& part, int parts);

// One of `parts` equal parts of a forward operator's work: joined() of it is the whole again. What
// it is cut along must divide by `parts`: see rows_to_cut.
Work part_of(const Work& whole, int parts);

// What an operator is cut along: rows; attention's and its unfused products' sequences and heads.
// 0: bytes alone (collectives).
std::int64_t rows_to_cut(const Work& w);

}  // namespace steploom
