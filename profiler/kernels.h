// Kernels of our own for the operators that only move memory, as plain C++ functions.
//
// Each function launches on a stream and returns; pointers are device memory, 16-byte aligned; rows
// are dense and row-major, and a row's width n is a multiple of 8 (another width throws
// DeviceError). Arithmetic is in fp32, results are rounded to bf16 once. All but add_rows give the
// same bits in every run. A gradient of parameters is added to its fp32 accumulator. What is timed
// by the profiler is what the executor runs. Bytes beside each function are those that it must
// move, m rows of width n, leaving out what is smaller by the width of a row.
#pragma once

#include <cstdint>

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
// each position and i < d/2, the cosine and the sine. Backward turns the other way. 4mn bytes; d a
// multiple of 16.
struct RotaryShape {
  std::int64_t rows;
  std::int64_t positions;
  int heads;
  int head_dim;
};
void rotary(Bf16* y, const Bf16* x, const float* cos_sin, const RotaryShape& shape, Stream stream);
void rotary_backward(Bf16* dx, const Bf16* dy, const float* cos_sin, const RotaryShape& shape,
                     Stream stream);

// y[i] = x[index[i]]: permute forward and embedding forward. 4mn bytes.
void gather_rows(Bf16* y, const Bf16* x, const std::int32_t* index, std::int64_t m, std::int64_t n,
                 Stream stream);

// y[t] = Σ_j weight[t][j] · x[position[t][j]] over k choices: unpermute forward and, with weight
// null (all one), permute backward. 2mn(k + 1) bytes.
void sum_rows(Bf16* y, const Bf16* x, const std::int32_t* position, const float* weight,
              std::int64_t m, int k, std::int64_t n, Stream stream);

// dx[position[t][j]] = weight[t][j] · dy[t] and d_weight[t][j] = dy[t]·x[position[t][j]], m tokens
// of k choices, k at most 16. 2mn(2k + 1) bytes.
void unpermute_backward(Bf16* dx, float* d_weight, const Bf16* dy, const Bf16* x,
                        const std::int32_t* position, const float* weight, std::int64_t m, int k,
                        std::int64_t n, Stream stream);

// table[index[i]] += dy[i] in fp32, by atomic additions: the order of the sums, and so the last
// bits of rows that occur more than once, change from run to run. 10mn bytes.
void add_rows(float* table, const Bf16* dy, const std::int32_t* index, std::int64_t m,
              std::int64_t n, Stream stream);

// Softmax over n experts (at most 512) and the k largest scores (at most 16; of equals the lower
// expert), with weights that add up to one. m(6n + 8k) bytes.
void router(float* scores, std::int32_t* chosen, float* weight, const Bf16* logits, std::int64_t m,
            int n, int k, Stream stream);

// d_logits of those weights. m(2n + 12k) bytes.
void router_backward(Bf16* d_logits, const float* d_weight, const float* weight,
                     const std::int32_t* chosen, std::int64_t m, int n, int k, Stream stream);

// loss[i] = log Σ exp(logits[i]) − logits[i][target[i]]; keeps the logarithm. 2mn bytes.
void cross_entropy(float* loss, float* log_sum, const Bf16* logits, const std::int32_t* target,
                   std::int64_t m, std::int64_t n, Stream stream);

// d_logits = (softmax − one at the target) · factor; may be in place. 4mn bytes.
void cross_entropy_backward(Bf16* d_logits, const Bf16* logits, const float* log_sum,
                            const std::int32_t* target, float factor, std::int64_t m,
                            std::int64_t n, Stream stream);

// AdamW with fp32 master weights and states; writes the bf16 parameters. 30 bytes a parameter.
struct AdamStep {
  float rate;
  float beta1;
  float beta2;
  float epsilon;
  float decay;
  float factor;       // the gradient is multiplied by it (clipping, averaging)
  std::int64_t step;  // from 1
};
void adam(Bf16* parameters, float* master, float* first, float* second, const float* gradient,
          std::int64_t count, const AdamStep& step, Stream stream);

// sum = Σ x². 4 bytes an element; scratch of square_scratch() floats.
std::int64_t square_scratch();
void sum_of_squares(float* sum, float* scratch, const float* x, std::int64_t count, Stream stream);

}  // namespace steploom::kernels
