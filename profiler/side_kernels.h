// The kernels that run beside collectives, one row a class, and the blocker that takes SMs away.
//
//   matmul        cuBLAS bf16, 8192 × 8192 × 4096 (0.55 TFLOP): many waves
//   matmul_small  cuBLAS bf16, 4096 × 4096 × 2048 (0.07 TFLOP)
//   memory        y ← a·x + y over 512 MiB of fp32 (1.5 × 512 MiB moved): blocks retire in waves
//   attention, attention_backward
//                 cuDNN's, causal, bf16: side_attention.h
//   spin          one block of 1024 threads on every SM, some 0.5 ms of arithmetic in registers:
//                 no memory traffic, and no block retires before the end
//
// The blocker keeps whole SMs: each of its blocks takes all the shared memory of one (227 KiB, and
// the 1 KiB that every block reserves), so that no block of any other kernel fits beside it.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "profiler/side_attention.h"

namespace steploom {

// Device memory and handles of one rank; made once, before anything is timed.
struct SideKernels {
  int sms = 0;
  cublasHandle_t cublas = nullptr;
  std::byte* workspace = nullptr;  // cuBLAS's
  std::byte* a = nullptr;          // operands, bf16, random
  std::byte* b = nullptr;
  std::byte* c = nullptr;  // product
  float* x = nullptr;      // the memory kernel's
  float* y = nullptr;
  float* sink = nullptr;     // the spin's result
  int* flags = nullptr;      // mapped host memory: [0] blockers resident, [1] always 1
  int* let_go = nullptr;     // device memory: blockers leave when it is not 0
  unsigned* seen = nullptr;  // device memory: one word an SM
  unsigned long long* wrong = nullptr;
  std::unique_ptr<SideAttention> attention;  // none without cuDNN
};
SideKernels make_side_kernels(cudaStream_t stream, cudaStream_t other);

struct SideKernel {
  const char* name;
  double least_us;  // a little less than it takes alone on an H200: for sizing trains of it
  void (*launch)(SideKernels& kernels, cudaStream_t stream);
};
// Those of the names; of no names all that this build has. Ends the run if one needs cuDNN and this
// build has none.
std::vector<SideKernel> side_kernels_named(const std::vector<std::string>& names);

// Runs the kernel once and checks what it wrote. Products: 4096 elements of a result that was
// poisoned before, recomputed in fp64; the largest error relative to the sum of the absolute terms.
// Memory: the part of all elements that differ. Attention: 0, and a wrong row of its proof ends the
// run. Waits for the stream.
double error_of(SideKernels& kernels, const SideKernel& kernel, cudaStream_t stream);

// Occupies `blocks` SMs from return until release_sms (or kBlockedSeconds). Launches nothing if 0.
inline constexpr double kBlockedSeconds = 5;
void take_sms(SideKernels& kernels, int blocks, cudaStream_t stream);
void release_sms(SideKernels& kernels, cudaStream_t blocker, cudaStream_t other);

// SMs on which blocks of an ordinary kernel run now.
int count_free_sms(SideKernels& kernels, cudaStream_t stream);

}  // namespace steploom
