// What a step calls on real tensors: one plain struct a kernel, its operands in the struct's order.
//
// A KernelCall is one of these structs. They are the whole vocabulary between binding (which makes
// them from a Program, bind.h) and a KernelSet (which runs them, kernel_set.h). Conventions:
//
//   - Tensors are row-major and dense, `rows` × `width`; a run of rows of one is a view of it
//     (TensorRef::slice). What the comments call [m, n] has m rows of n elements.
//   - Activations and weights are ElementType::bf16 (a backend may hold them more precisely),
//     statistics and gradients of parameters fp32, indices int32. Sums are at least fp32.
//   - A linear layer is y = x·Wᵀ with W [outputs, inputs], as in profiler/products.h.
//   - A gradient of parameters is *added* to its accumulator; every other result is overwritten.
//   - q, k and v of a token lie in one row: heads·d | kv_heads·d | kv_heads·d_v. A gated hidden row
//     is gate | up, each half the width.
//   - Routing has fixed capacity: a rank's routed rows lie expert by expert, `capacity` rows each,
//     experts·capacity = tokens·top_k. In chunks: chunk by chunk, in each expert by expert,
//     capacity/chunks rows each. An empty place is a row of zeros.
//   - A default-constructed TensorRef means "absent" where a comment says optional.
//
// Sizes are elements unless they say bytes. Nothing here owns memory.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "models/work.h"

namespace steploom {

enum class ElementType : std::uint8_t { bf16, fp32, int32 };
constexpr Bytes bytes_of(ElementType t) {
  return t == ElementType::bf16 ? 2 : 4;
}

inline constexpr std::uint32_t kNoMemory = 0xffffffff;

// A dense tensor inside one of a KernelSet's memories.
struct TensorRef {
  std::uint32_t memory = kNoMemory;  // which; kNoMemory: absent
  Bytes offset = 0;                  // of its first element, in bytes
  ElementType type = ElementType::bf16;
  std::int64_t rows = 0;
  std::int64_t width = 0;

  explicit operator bool() const { return memory != kNoMemory; }
  std::int64_t elements() const { return rows * width; }
  Bytes bytes() const { return elements() * bytes_of(type); }
  // Rows [first, first + count) as a tensor of their own.
  TensorRef slice(std::int64_t first, std::int64_t count) const {
    return {memory, offset + first * width * bytes_of(type), type, count, width};
  }
  // The same elements with another number of rows.
  TensorRef shaped(std::int64_t new_rows, std::int64_t new_width) const {
    return {memory, offset, type, new_rows, new_width};
  }
  bool operator==(const TensorRef&) const = default;
};

// ---- Products ------------------------------------------------------------------------------

// forward: result = y [m, outputs], a = x, b = W, y = x·Wᵀ (+ bias)
// data_grad: result = dx [m, inputs], a = dy, b = W, dx = dy·W
// weight_grad: result = dW [outputs, inputs] fp32, a = x, b = dy, dW += dyᵀ·x (bias += Σ rows of
// dy)
struct Linear {
  Phase phase = Phase::forward;
  TensorRef result, a, b;
  TensorRef bias;  // optional, [1, outputs]: bf16 parameter forward, fp32 gradient in weight_grad
};

// The same for `experts` layers side by side: the rows of a (and of result, or of b in weight_grad)
// are experts equal runs, the weights [experts·outputs, inputs]. No biases.
struct ExpertLinear {
  Phase phase = Phase::forward;
  std::int64_t experts = 1;
  TensorRef result, a, b;
};

// ---- Attention -----------------------------------------------------------------------------

// Causal, scaled by 1/√head_dim, over `sequences` runs of `sequence` rows each.
struct AttentionSizes {
  std::int64_t sequence = 0, sequences = 0;
  int heads = 0, kv_heads = 0, head_dim = 0, v_head_dim = 0;
};

// out [m, heads·v_head_dim]; log_sum [sequences·heads, sequence] fp32: logarithm (base e) of the
// sum of exp(scaled scores) of each query, head after head inside a sequence.
struct Attention {
  TensorRef out, log_sum, qkv;
  AttentionSizes sizes;
};

struct AttentionBackward {
  TensorRef d_qkv, d_out, qkv, out, log_sum;
  AttentionSizes sizes;
};

// Rotates the pairs (i, i + head_dim/2) of the first `heads` heads of each row of x and copies the
// rest of the row; row r has position r mod positions. table [positions, head_dim] fp32: cosine and
// sine of each pair in turn. Backward turns the other way.
struct Rotary {
  bool backward = false;
  TensorRef y, x, table;
  int heads = 0;  // query and key heads
  int head_dim = 0;
  std::int64_t positions = 0;
};

// ---- Rows one by one -----------------------------------------------------------------------

// With a bias LayerNorm, else RMSNorm. scale and mean are [m, 1] fp32; gain and bias [1, n].
struct Norm {
  TensorRef y, scale, x, gain;
  TensorRef mean, bias;  // LayerNorm only
  double epsilon = 1e-5;
};

// d_gain += and d_bias += (fp32).
struct NormBackward {
  TensorRef dx, d_gain, dy, x, scale, gain;
  TensorRef d_bias, mean;  // LayerNorm only
};

// gated: y = silu(gate)·up from rows of 2n; else GELU by its tanh form.
struct Activation {
  bool gated = true;
  TensorRef y, x;
};
struct ActivationBackward {
  bool gated = true;
  TensorRef dx, dy, x;
};

// y = a + b.
struct Add {
  TensorRef y, a, b;
};

// ---- Routing -------------------------------------------------------------------------------

// What a run does with a step's routing. The tape of one router call is [m, k] int32: the expert's
// number, or −1 − number where the choice was dropped.
enum class TapeMode : std::uint8_t { off, record, replay };

// The k largest of n logits (of equals the lower expert) and weights that are the softmax over
// those k. Choices are placed in order of (token, choice): each takes the next place of its expert,
// or is dropped when the expert's `capacity` places are full.
//   chosen   [m, k] int32  experts, largest first
//   weight   [m, k] fp32   also of dropped choices
//   position [m, k] int32  the row of (expert, place), or −1: dropped
//   source   [n·capacity, 1] int32  token·k + choice of the row, or −1: empty
// Replaying, chosen and the drops come from the tape and the weights are those of its experts;
// a tape that does not fit the capacity is a fault of the caller.
// With c = capacity/chunks, the row is (place/c·n + expert)·c + place mod c; unchunked that is
// expert·capacity + place.
struct Router {
  TensorRef chosen, weight, position, source, logits;
  std::int64_t capacity = 0;  // rows of an expert, in all chunks
  std::int64_t chunks = 1;    // a divisor of the capacity
  TapeMode mode = TapeMode::off;
  TensorRef tape;  // optional
};

// d_logits [m, n]; zero for experts that were not chosen.
struct RouterBackward {
  TensorRef d_logits, d_weight, weight, chosen;
};

// y[i] = x[source[i] / k], or zeros where source[i] is −1.
struct Permute {
  TensorRef y, x, source;
  int k = 1;
};

// dx[t] = Σ_j dy[position[t][j]] over the choices that were not dropped.
struct PermuteBackward {
  TensorRef dx, dy, position;
};

// y[t] = Σ_j weight[t][j]·x[position[t][j]] over the choices not dropped (+ shared[t]).
struct Unpermute {
  TensorRef y, x, position, weight;
  TensorRef shared;  // optional, [m, h]
};

// dx[i] = weight[source[i]]·dy[source[i] / k], or zeros where source[i] is −1;
// d_weight[t][j] = dy[t]·x[position[t][j]], or 0 where dropped. d_weight [m, k] fp32.
struct UnpermuteBackward {
  TensorRef dx, d_weight, dy, x, position, weight, source;
};

// x is outer × inner blocks of equally many rows; y the same blocks, inner × outer.
struct SortRows {
  TensorRef y, x;
  std::int64_t outer = 1, inner = 1;
};

// ---- Embedding and loss --------------------------------------------------------------------

// y[t] = table[ids[t] − first_id], or zeros where that is outside the table's rows (another rank of
// the tensor-parallel group has it), + positions[t mod sequence] if present. ids [m, 1] int32.
struct Embedding {
  TensorRef y, ids, table;
  TensorRef positions;  // optional, [most, h]
  std::int64_t first_id = 0;
  std::int64_t sequence = 1;
};

// d_table[ids[t] − first_id] += dy[t] (fp32), d_positions[t mod sequence] += dy[t].
struct EmbeddingBackward {
  TensorRef d_table, dy, ids;
  TensorRef d_positions;  // optional
  std::int64_t first_id = 0;
  std::int64_t sequence = 1;
};

// loss[t] = log Σ exp(logits[t]) − logits[t][target[t]]; log_sum keeps the logarithm. Both [m, 1]
// fp32, targets [m, 1] int32. The whole vocabulary on one rank.
struct CrossEntropy {
  TensorRef log_sum, loss, logits, targets;
};

// The same over slices of the vocabulary, in three kernels. Between the first and the second,
// maximum is reduced over the group (max), between the second and the third, sums (sum).
//   maximum [m, 1] fp32: of this slice
//   local   [m, 3] fp32: own maximum, Σ exp(logit − own maximum), the target's logit (0 where
//           another slice has it)
//   sums    [m, 2] fp32: Σ exp(logit − maximum), the target's logit
struct CrossEntropySlice {
  TensorRef maximum, local, logits, targets;
  std::int64_t first_id = 0;  // of the slice
};
struct CrossEntropySums {
  TensorRef sums, local, maximum;
};
// log_sum = maximum + log sums[0]; loss = log_sum − sums[1].
struct CrossEntropyEnd {
  TensorRef log_sum, loss, maximum, sums;
};

// d_logits = (exp(logits − log_sum) − one at the target)·factor, in place over the logits.
struct CrossEntropyBackward {
  TensorRef logits, log_sum, targets;
  std::int64_t first_id = 0;
  double factor = 1;  // 1 / tokens of the global batch
};

// ---- Once a step ---------------------------------------------------------------------------

// sum [1, 1] fp32 = Σ over the pieces of factor · Σ x². The factor is 1 over the number of ranks
// that hold the same piece, so that the sum over all ranks counts every parameter once.
struct SumOfSquares {
  struct Piece {
    TensorRef x;
    double factor = 1;
  };
  TensorRef sum;
  std::vector<Piece> pieces;
};

// AdamW on fp32 masters, gradient · min(1, clip / (√squares + 1e-6)) with clip > 0, else as it is;
// writes the parameters from the masters. The refs of a piece have equally many elements.
struct Adam {
  struct Piece {
    TensorRef parameters, master, first, second, gradient;
  };
  std::vector<Piece> pieces;
  TensorRef squares;  // [1, 1] fp32, of all gradients
  double rate = 1e-3, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, decay = 0.1, clip = 1;
};

struct ZeroFill {
  std::vector<TensorRef> pieces;
};

// ---- Communication -------------------------------------------------------------------------

enum class CollectiveKind : std::uint8_t {
  all_reduce_sum,
  all_reduce_max,
  all_gather,      // `to` is the members' `from`, one after the other
  reduce_scatter,  // `to` is the member's part of the sum of all `from`
  all_to_all,      // `from` and `to` are as many equal parts as members
  send,            // `from` only
  receive,         // `to` only
};
std::string_view name_of(CollectiveKind k);

// One call on a communicator. Several pieces are one group (ncclGroupStart .. End). all_gather,
// reduce_scatter and all_reduce may be in place.
struct Collective {
  struct Piece {
    TensorRef to, from;
    // all_to_all only, rows to and from each member; empty: equal parts.
    std::vector<std::int64_t> send_rows, receive_rows;
  };
  CollectiveKind kind = CollectiveKind::all_reduce_sum;
  std::uint32_t communicator = 0;  // of the rank's list
  std::vector<Piece> pieces;
};

using KernelCall =
    std::variant<Linear, ExpertLinear, Attention, AttentionBackward, Rotary, Norm, NormBackward,
                 Activation, ActivationBackward, Add, Router, RouterBackward, Permute,
                 PermuteBackward, Unpermute, UnpermuteBackward, SortRows, Embedding,
                 EmbeddingBackward, CrossEntropy, CrossEntropySlice, CrossEntropySums,
                 CrossEntropyEnd, CrossEntropyBackward, SumOfSquares, Adam, ZeroFill, Collective>;

}  // namespace steploom
