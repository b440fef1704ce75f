// What one operator does, independent of any graph, GPU or cluster.
//
// A Work is the common word of all rooms: the builder writes it into the nodes of an OpGraph, the
// cost model turns it into a duration, the profiler measures it, the executor runs it. It says
// which kernel (kind and phase), on which shape, and how many FLOPs and bytes that is.
//
// Units: FLOPs count a multiply-add as two; bytes are what an ideal kernel moves through device
// memory once (reads plus writes); for a collective, `bytes` is the size that nccl-tests prints,
// i.e. the larger of one rank's send and receive buffer.
#pragma once

#include <cstdint>
#include <string_view>

namespace steploom {

using Bytes = std::int64_t;
using Picoseconds = std::int64_t;

// What products compute in. tf32: fp32 operands rounded by the tensor cores. fp8 (scaled a tensor)
// and fp8_block (scaled a block): 8-bit operands and 16-bit results; all else stays bf16.
enum class Precision : std::uint8_t { bf16, fp16, fp32, tf32, fp8, fp8_block };
inline constexpr int kPrecisions = static_cast<int>(Precision::fp8_block) + 1;

Bytes bytes_of(Precision p);              // of a stored activation: 2, 2, 4, 4, 2, 2
Bytes operand_bytes(Precision p);         // of a product's operand: 2, 2, 4, 4, 1, 1
Precision stored_precision(Precision p);  // of everything but products: bf16, fp16, fp32
bool is_16_bit(Precision p);              // bf16, fp16
std::string_view name_of(Precision p);    // "bf16"

// Kernels that steploom can name. One row each in work.cpp: name and class.
enum class OpKind : std::uint8_t {
  matmul,          // (m × k) · (k × n)
  grouped_matmul,  // `groups` products (m_i × k) · (k × n) with Σ m_i = m
  batched_matmul,  // `groups` products (m_i × k) · (k × n) of equal m_i with Σ m_i = m, one a head
  attention,       // core attention: softmax(q kᵀ) v, fused; causal unless both_ways
  embedding,       // gather of m rows of width n from a table; backward: scatter-add
  norm,            // LayerNorm or RMSNorm of m rows of width n
  rotary,          // rotary position embedding of m rows of width n
  residual,        // element-wise sum of m rows of width n
  activation,      // gated (SwiGLU) or plain (GELU) activation, m rows, n outputs
  softmax,         // scale, causal mask and softmax of m rows of width n
  dropout,         // of m rows of width n, with a mask of one byte an element
  router,          // softmax or sigmoid scores and top-k over n experts for m tokens
  permute,         // gather m rows of width n into expert order
  unpermute,       // weighted sum of m rows of width n back into token order
  cross_entropy,   // loss over m tokens and n (local) vocabulary entries, in fp32
  adam,            // optimizer update of m parameters
  grad_norm,       // sum of squares over m fp32 gradients (for clipping)
  zero_fill,       // set m bytes to zero
  copy_to_device,  // m bytes from pinned host memory, by a copy engine
  copy_to_host,    // m bytes to it
  all_reduce,
  all_gather,
  reduce_scatter,
  all_to_all,
  send_recv,  // point to point, one direction
};
inline constexpr int kOpKinds = static_cast<int>(OpKind::send_recv) + 1;

// How reports group kinds.
enum class OpClass : std::uint8_t {
  matmul,
  grouped_matmul,
  attention,
  memory,
  optimizer,
  copy,  // between the device and its host
  communication
};
inline constexpr int kOpClasses = static_cast<int>(OpClass::communication) + 1;

std::string_view name_of(OpKind k);  // "grouped_matmul"
OpClass class_of(OpKind k);
std::string_view name_of(OpClass c);  // "memory"
inline bool is_communication(OpKind k) {
  return class_of(k) == OpClass::communication;
}

enum class Phase : std::uint8_t { forward, data_grad, weight_grad, optimizer };
std::string_view name_of(Phase p);  // "forward"

// How rows go to experts and back (Work::exchange).
enum class ExpertExchange : std::uint8_t {
  parts,     // an all-to-all of parts, one for each rank
  dispatch,  // by kernels of their own (DeepEP's), a row once to each rank that it has an expert on
             // and, over the NICs, once to each node
  combine,   // back the same way, summed in each rank and node that they pass
  step,      // one step of a group-wise exchange (FasterMoE): the k-th of `groups`, see below
};

struct Work {
  OpKind kind = OpKind::matmul;
  Phase phase = Phase::forward;
  Precision precision = Precision::bf16;
  // Shape. For products: the forward product's own m, n, k in the phase at hand, that is,
  // data_grad is (m × n)·(n × k) and carries m=m, n=k, k=n; weight_grad is (k × m)·(m × n) and
  // carries m=k, n=n, k=m, its result accumulated in fp32.
  // router, permute: k = experts chosen for a token (permute of rows that have one each: 1).
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  // Kernels that move data: m rows of width n, and k where it says something: the statistics that a
  // norm takes of a row (1 RMSNorm, 2 LayerNorm), experts chosen for a token (router, permute,
  // unpermute), width of a head (rotary), rows of the table (embedding).
  std::int64_t groups = 1;  // grouped_matmul: experts on this rank; batched_matmul: heads
  // Attention only: m = query tokens of one sequence, n = sequences, and
  std::int32_t heads = 0;       // query heads on this rank
  std::int32_t kv_heads = 0;    // key-value heads on this rank
  std::int32_t head_dim = 0;    // width of q and k per head
  std::int32_t v_head_dim = 0;  // width of v per head
  std::int64_t window = 0;      // tokens that a query sees, less than m; 0: all up to its own
  bool chunked = false;         // of its own chunk of `window` tokens, not the last so many
  bool both_ways = false;       // every query sees all tokens, those after its own too (BERT)
  // More than m: the m queries are a balanced part of a sequence of so many tokens, whose keys are
  // all here (context parallel); 0: all m tokens of the sequence are.
  std::int64_t keys = 0;
  double flops = 0;  // executed floating-point operations
  Bytes bytes = 0;   // see above
  // weight_grad: a tensor of its own, in the operands' precision; false: added to an fp32 sum.
  bool fresh = false;
  // all_to_all: m tokens of a rank, rows of width n, for each k experts out of `groups`, which lie
  // on at most node_limit nodes (0: any number); `bytes`: that a rank receives of a dispatch. A
  // step: in step k of `groups` the ranks, cut into so many groups of neighbours, each send `bytes`
  // in equal parts to the members of the k-th group behind their own (k = 0: their own) and receive
  // as much from the k-th before it.
  ExpertExchange exchange = ExpertExchange::parts;
  std::int32_t node_limit = 0;
  // Kernels that move data: 0: the profile's kernel of this kind. Otherwise another one, which
  // takes as long as an element-wise kernel that moves so many times `bytes`.
  double elementwise = 0;
  // grouped_matmul: how unevenly the m rows lie on the groups, the exponent of a power law
  // (sim/expert_loads.h); 0: every group has the same.
  double skew = 0;
};

bool is_masked_otherwise(const Work& attention);  // not causal over m tokens
// An exchange of experts' rows by kernels of their own, not NCCL's.
inline bool rows_by_kernels(const Work& w) {
  return w.exchange == ExpertExchange::dispatch || w.exchange == ExpertExchange::combine;
}

}  // namespace steploom
