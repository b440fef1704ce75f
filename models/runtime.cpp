#include "models/runtime.h"

#include <fmt/format.h>

#include <array>
#include <vector>

#include "models/error.h"
#include "models/nearest.h"

namespace steploom {
namespace {

constexpr Picoseconds kNanosecond = 1000;
constexpr Bytes kMiB = Bytes{1} << 20;

// Device memory outside tensors. cuBLAS recommends a workspace of 32 MiB on Hopper (cuBLAS manual,
// cublasSetWorkspace). A CUDA context with the kernels of cuBLAS, cuDNN and NCCL loaded takes about
// 600 MiB; torch's caching allocator loses about 512 MiB to fragments: both assumed until measured.
constexpr Bytes kCublasWorkspace = 32 * kMiB;
constexpr Bytes kContext = 600 * kMiB;
constexpr Bytes kAllocatorSlack = 512 * kMiB;

// NCCL keeps one receive buffer a channel and protocol: Simple 4 MiB, LL128 4.7 MiB, LL 0.5 MiB
// (NCCL 2.30, src/init.cc, computeBuffSizes). 16 channels: assumed until measured.
constexpr Bytes kCommunicatorBuffers = 147 * kMiB;

// Megatron-Core 0.20 with Transformer Engine on Hopper, MoE with the dropless all-to-all dispatcher
// and without overlap of the expert all-to-all.
Runtime megatron_core() {
  Runtime r;
  r.name = "megatron-core";
  r.launch = 6'000 * kNanosecond;  // Python and torch's dispatcher: assumed until measured
  r.launch_collective = 20'000 * kNanosecond;  // through ProcessGroupNCCL: assumed until measured
  r.hardware_connections = 1;  // CUDA_DEVICE_MAX_CONNECTIONS=1, asked for with tp > 1 before
                               // Blackwell (megatron/training/arguments.py, validate_args)
  r.collective_waits_for_issued =
      true;                            // ProcessGroupNCCL::syncStream records on the current stream
  r.kernels_wait_for_receives = true;  // p2p_communication.py waits before the pass begins
  r.host_waits_for_routing = true;     // tokens_per_expert goes to the host (token_dispatcher.py)
  r.most_zero = 3;             // Megatron-FSDP's optim_grads and optim_grads_params, torch's FSDP2
  r.replicates_shards = true;  // --num-distributed-optimizer-instances
  r.context_parallel = true;   // Transformer Engine's attention
  r.overlap_grad_reduce = true;    // --overlap-grad-reduce, in every public recipe
  r.overlap_param_gather = true;   // --overlap-param-gather, likewise
  r.grad_bytes = 4;                // bf16 training accumulates and reduces in fp32 (validate_args)
  r.bucket_elements = 40'000'000;  // distributed_data_parallel.py: max(40M, 1M · dp)
  r.bucket_elements_per_rank = 1'000'000;
  r.workspace = kCublasWorkspace + kContext + kAllocatorSlack;
  r.communicator_buffers = kCommunicatorBuffers;
  r.overlaps_tp = true;  // --tp-comm-overlap, by Transformer Engine's userbuffers
  return r;
}

// Megatron-LM as of 2022 (arXiv 2205.05198): attention in kernels of its own, dropout, gradients
// reduced after the last backward pass and no distributed optimizer (plan with zero=0).
Runtime megatron_2022() {
  Runtime r = megatron_core();
  r.name = "megatron-2022";
  r.fused_attention = false;
  r.dropout = true;
  r.most_zero = 1;
  r.replicates_shards = false;
  r.context_parallel = false;  // came with Megatron-Core 0.5
  r.overlaps_tp = false;       // Transformer Engine's
  r.overlap_grad_reduce = false;
  r.overlap_param_gather = false;
  return r;
}

// Our own executor: C++ issues precomputed launches from one arena, a collective waits for exactly
// what it reads, and experts have a fixed capacity, so the host never asks how many tokens came.
Runtime own_executor() {
  Runtime r;
  r.name = "steploom";
  // The executor's calls on an H200's host (profiler/data/h200-sxm-141gb/gaps-nvlink.jsonl): 3.5 µs
  // where one kernel is launched, 6 a product, 7 a norm backward, 6.5 and 14.4 attention forward
  // and backward: so a Llama layer's 26 calls, forward and backward, have a mean of 5.4 µs. A
  // collective is 5.9 µs of NCCL's and twice 0.3 µs to record an event and wait for it.
  r.launch = 5'400 * kNanosecond;
  r.launch_collective = 6'500 * kNanosecond;
  r.hardware_connections = 32;  // CUDA's most; set by the executor
  r.collective_waits_for_issued = false;
  r.kernels_wait_for_receives = false;
  r.receive_ahead = 1;    // a message travels while the slot before its own computes
  r.sends_under_way = 3;  // a receiver is at most a slot and its receive behind
  r.host_waits_for_routing = false;
  r.chunks_experts = true;
  r.complete_operands = true;
  r.overlap_grad_reduce = true;
  r.overlap_param_gather = true;
  r.grad_bytes = 4;                // as megatron-core, so that the two compare
  r.bucket_elements = 40'000'000;  // likewise
  r.bucket_elements_per_rank = 1'000'000;
  r.workspace = kCublasWorkspace + kContext;
  r.communicator_buffers = kCommunicatorBuffers;
  return r;
}

}  // namespace

std::span<const Runtime> built_in_runtimes() {
  static const std::array kRuntimes{megatron_core(), own_executor(), megatron_2022()};
  return kRuntimes;
}

const Runtime& runtime_named(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Runtime& runtime : built_in_runtimes()) {
    if (runtime.name == name) return runtime;
    names.push_back(runtime.name);
  }
  throw Error(
      {"runtime", "", "a built-in runtime", fmt::format("'{}'", name), nearest_hint(name, names)});
}

}  // namespace steploom
