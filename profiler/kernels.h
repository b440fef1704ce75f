// Kernels of our own for the operators that only move memory, as plain C++ functions.
//
// Each function launches on a stream and returns; pointers are device memory, 16-byte aligned; rows
// are dense and row-major, and a row's width n is a multiple of 8 (another width throws
// DeviceError). Arithmetic is in fp32, results are rounded to bf16 once. All but add_rows give the
// same bits in every run. A position or source of -1 is that of a choice that was dropped, or of an
// empty row (kernel_calls.h). A gradient of parameters is added to its fp32 accumulator. What is
// timed by the profiler is what the executor runs. Bytes beside each function are those that it
// must move, m rows of width n, leaving out what is smaller by the width of a row.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "profiler/device.h"

namespace steploom::kernels {

// y = x / √(mean x² + ε) · gain; keeps 1/√… of each row. 4mn bytes.
void rms_norm(Bf16* y, float* scale, const Bf16* x, const Bf16* gain, std::int64_t m,
              std::int64_t n, float epsilon, Stream stream);

// The norms' backward passes need a scratch of this many floats for the sums over rows.
std::int64_t norm_scratch(std::int64_t n);

// dx, and d_gain += the sum over rows. 6mn bytes.
void rms_norm_backward(Bf16* dx, float* d_gain, float* scratch, const Bf16* dy, const Bf16* x,
                       const float* scale, const Bf16* gain, std::int64_t m, std::int64_t n,
                       Stream stream);

// y = (x − mean) / √(variance + ε) · gain + bias. 4mn bytes.
void layer_norm(Bf16* y, float* mean, float* scale, const Bf16* x, const Bf16* gain,
                const Bf16* bias, std::int64_t m, std::int64_t n, float epsilon, Stream stream);

// dx, d_gain +=, d_bias +=. 6mn bytes.
void layer_norm_backward(Bf16* dx, float* d_gain, float* d_bias, float* scratch, const Bf16* dy,
                         const Bf16* x, const float* mean, const float* scale, const Bf16* gain,
                         std::int64_t m, std::int64_t n, Stream stream);

// y = silu(gate) · up, gate and up being the halves of a row of 2n. 6mn bytes, backward 10mn.
void swiglu(Bf16* y, const Bf16* gate_up, std::int64_t m, std::int64_t n, Stream stream);
void swiglu_backward(Bf16* d_gate_up, const Bf16* dy, const Bf16* gate_up, std::int64_t m,
                     std::int64_t n, Stream stream);

// GELU by its tanh form, as GPT-2 has it. 4mn bytes, backward 6mn.
void gelu(Bf16* y, const Bf16* x, std::int64_t m, std::int64_t n, Stream stream);
void gelu_backward(Bf16* dx, const Bf16* dy, const Bf16* x, std::int64_t m, std::int64_t n,
                   Stream stream);

// y = a + b. 6mn bytes.
void residual(Bf16* y, const Bf16* a, const Bf16* b, std::int64_t m, std::int64_t n, Stream stream);

// Rotates pairs (i, i + d/2) of every head; row r has position r mod positions. cos_sin holds, for
// each position and i < d/2, the cosine and the sine. Backward turns the other way. What lies
// behind the heads in a row is copied. 4mn bytes; d a multiple of 16.
struct RotaryShape {
  std::int64_t rows;
  std::int64_t positions;
  int heads;
  int head_dim;
  std::int64_t width = 0;  // of a row; 0: its heads alone
};
void rotary(Bf16* y, const Bf16* x, const float* cos_sin, const RotaryShape& shape, Stream stream);
void rotary_backward(Bf16* dx, const Bf16* dy, const float* cos_sin, const RotaryShape& shape,
                     Stream stream);

// y[i] = x[index[i]]: permute forward and embedding forward. 4mn bytes.
void gather_rows(Bf16* y, const Bf16* x, const std::int32_t* index, std::int64_t m, std::int64_t n,
                 Stream stream);

// y[i] = x[source[i] / k], or zeros: permute forward with a fixed capacity. 4mn bytes.
void permute_rows(Bf16* y, const Bf16* x, const std::int32_t* source, std::int64_t m, int k,
                  std::int64_t n, Stream stream);

// x is outer × inner blocks of equally many of the m rows; y the same, inner × outer. 4mn bytes.
void swap_blocks(Bf16* y, const Bf16* x, std::int64_t outer, std::int64_t inner, std::int64_t m,
                 std::int64_t n, Stream stream);

// y[t] = Σ_j weight[t][j] · x[position[t][j]] over k choices (+ plus[t], if not null): unpermute
// forward and, with weight null (all one), permute backward. 2mn(k + 1) bytes.
void sum_rows(Bf16* y, const Bf16* x, const std::int32_t* position, const float* weight,
              const Bf16* plus, std::int64_t m, int k, std::int64_t n, Stream stream);

// dx[position[t][j]] = weight[t][j] · dy[t] and d_weight[t][j] = dy[t]·x[position[t][j]] or 0, m
// tokens of k choices, k at most 16; with a source (not null), zeros in the empty ones of dx's m·k
// rows. 2mn(2k + 1) bytes.
void unpermute_backward(Bf16* dx, float* d_weight, const Bf16* dy, const Bf16* x,
                        const std::int32_t* position, const float* weight,
                        const std::int32_t* source, std::int64_t m, int k, std::int64_t n,
                        Stream stream);

// Rows of a table that a rank holds: indices [first, first + count).
struct TableRows {
  std::int64_t first = 0;
  std::int64_t count = std::numeric_limits<std::int64_t>::max();
};

// y[t] = table[ids[t] − first], or zeros where another rank holds the row (+ positions[t mod
// sequence], if not null). 4mn bytes.
void embed(Bf16* y, const std::int32_t* ids, const Bf16* table, const TableRows& rows,
           const Bf16* positions, std::int64_t sequence, std::int64_t m, std::int64_t n,
           Stream stream);

// table[index[i] − first] += dy[i] in fp32, by atomic additions: the order of the sums, and so the
// last bits of rows that occur more than once, change from run to run. 10mn bytes.
void add_rows(float* table, const Bf16* dy, const std::int32_t* index, std::int64_t m,
              std::int64_t n, Stream stream, const TableRows& rows = {});

// d_positions[t mod sequence] += dy[t]. 2mn bytes.
void add_positions(float* d_positions, const Bf16* dy, std::int64_t sequence, std::int64_t m,
                   std::int64_t n, Stream stream);

// to[column] += Σ over m rows of x: a bias's gradient. Scratch of column_scratch floats. 2mn bytes.
std::int64_t column_scratch(std::int64_t m, std::int64_t n);
void add_columns(float* to, float* scratch, const Bf16* x, std::int64_t m, std::int64_t n,
                 Stream stream);

// The k largest (at most 16; of equals the lower expert) of n logits (at most 512) and weights that
// are the softmax over those; with scores (not null), the softmax over all; a source (not null, m·k
// of them) is emptied for place(). m(2n + 8k) bytes, and 4mn of scores.
void router(float* scores, std::int32_t* chosen, float* weight, const Bf16* logits, std::int64_t m,
            int n, int k, Stream stream, std::int32_t* source = nullptr);

// The same with the experts that a tape says (TapeMode::replay).
void router_again(std::int32_t* chosen, float* weight, std::int32_t* source, const Bf16* logits,
                  const std::int32_t* tape, std::int64_t m, int n, int k, Stream stream);

// Gives choices their rows, in order, up to the capacity of each expert. Scratch of place_scratch
// int32. 12 bytes a choice.
struct Placing {
  std::int32_t* position;      // of each choice
  std::int32_t* source;        // of each row, all empty before; so many rows as choices
  std::int32_t* record;        // the tape, or null
  const std::int32_t* choice;  // experts; negative: dropped, takes no place
  std::int64_t choices;
  int experts;
  std::int64_t capacity;    // of each expert
  std::int64_t chunks = 1;  // rows lie chunk by chunk, in each expert by expert (kernel_calls.h)
};
std::int64_t place_scratch(std::int64_t choices, int n);
void place(const Placing& placing, std::int32_t* scratch, Stream stream);

// d_logits of those weights. m(2n + 12k) bytes.
void router_backward(Bf16* d_logits, const float* d_weight, const float* weight,
                     const std::int32_t* chosen, std::int64_t m, int n, int k, Stream stream);

// loss[i] = log Σ exp(logits[i]) − logits[i][target[i]]; keeps the logarithm. 2mn bytes.
void cross_entropy(float* loss, float* log_sum, const Bf16* logits, const std::int32_t* target,
                   std::int64_t m, std::int64_t n, Stream stream);

// The same over slices of the vocabulary, this one's from first_id on, in three parts; between them
// maximum and sums are reduced over the slices (kernel_calls.h, CrossEntropySlice). 2mn bytes; the
// others little.
void cross_entropy_slice(float* maximum, float* local, const Bf16* logits,
                         const std::int32_t* target, std::int32_t first_id, std::int64_t m,
                         std::int64_t n, Stream stream);
void cross_entropy_sums(float* sums, const float* local, const float* maximum, std::int64_t m,
                        Stream stream);
void cross_entropy_end(float* loss, float* log_sum, const float* maximum, const float* sums,
                       std::int64_t m, Stream stream);

// d_logits = (softmax − one at the target) · factor; may be in place. 4mn bytes.
void cross_entropy_backward(Bf16* d_logits, const Bf16* logits, const float* log_sum,
                            const std::int32_t* target, float factor, std::int64_t m,
                            std::int64_t n, Stream stream, std::int32_t first_id = 0);

// What Adam's bias corrections multiply by after `step` steps: 1 / (1 − β1^step), 1 / √(1 −
// β2^step).
struct AdamCorrections {
  float first;
  float second_root;
};
AdamCorrections adam_corrections(float beta1, float beta2, std::int64_t step);
void set_corrections(AdamCorrections* to, const AdamCorrections& value, Stream stream);

// AdamW with fp32 master weights and states; writes the bf16 parameters. 30 bytes a parameter.
struct AdamStep {
  float rate;
  float beta1;
  float beta2;
  float epsilon;
  float decay;
  float factor;       // the gradient is multiplied by it (averaging)
  std::int64_t step;  // from 1
  // On the device, or null: the gradients' sum of squares, of which factor · min(1, clip / (√ +
  // 1e-6)); and corrections that stand in for those of `step`.
  const float* squares;
  float clip;
  const AdamCorrections* corrections;
};
void adam(Bf16* parameters, float* master, float* first, float* second, const float* gradient,
          std::int64_t count, const AdamStep& step, Stream stream);

// sum = Σ over pieces of factor · Σ x². 4 bytes an element; scratch of square_scratch floats.
struct SquarePiece {
  const float* x;
  std::int64_t count;
  float factor;
};
std::int64_t square_scratch(std::int64_t pieces);
void sum_of_squares(float* sum, float* scratch, std::span<const SquarePiece> pieces, Stream stream);

// Keeps the stream busy for so many milliseconds (at most 5000) on one thread of one SM.
void spin(double ms, Stream stream);

}  // namespace steploom::kernels
