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
  // 2 and 3: Megatron-FSDP's optim_grads and optim_grads_params, torch's FSDP2.
  r.zero = {true, true, true, true};
  r.replicates_shards = true;      // --num-distributed-optimizer-instances
  r.context_parallel = true;       // Transformer Engine's attention
  r.overlap_grad_reduce = true;    // --overlap-grad-reduce, in every public recipe
  r.overlap_param_gather = true;   // --overlap-param-gather, likewise
  r.grad_bytes = 4;                // bf16 training accumulates and reduces in fp32 (validate_args)
  r.bucket_elements = 40'000'000;  // distributed_data_parallel.py: max(40M, 1M · dp)
  r.bucket_elements_per_rank = 1'000'000;
  r.workspace = kCublasWorkspace + kContext + kAllocatorSlack;
  r.communicator_buffers = kCommunicatorBuffers;
  r.overlaps_tp = true;            // --tp-comm-overlap, by Transformer Engine's userbuffers
  r.deepep = true;                 // --moe-flex-dispatcher-backend deepep
  r.weaves = Weaves::interleaved;  // --overlap-moe-expert-parallel-comm
  return r;
}

// Megatron-LM as of 2022 (arXiv 2205.05198): attention in kernels of its own, dropout, gradients
// reduced after the last backward pass and no distributed optimizer (plan with zero=0).
Runtime megatron_2022() {
  Runtime r = megatron_core();
  r.name = "megatron-2022";
  r.fused_attention = false;
  r.dropout = true;
  r.zero = {true, true, false, false};
  r.replicates_shards = false;
  r.context_parallel = false;  // came with Megatron-Core 0.5
  r.overlaps_tp = false;       // Transformer Engine's
  r.deepep = false;            // of 2025
  r.weaves = Weaves::no;       // came with Megatron-Core 0.14
  r.overlap_grad_reduce = false;
  r.overlap_param_gather = false;
  return r;
}

// PyTorch eager: a plain nn.Module (profiler/torch_model.py) with 16-bit parameters and no masters,
// under DistributedDataParallel (zero=0), FSDP2 (zero=3) or torch.distributed.pipelining. Host
// times are means of profiler/data/h200-sxm-141gb/torch-parts.jsonl; those of single kernels stand
// with them in eager_kernels.cpp.
Runtime torch_eager() {
  Runtime r;
  r.name = "torch-eager";
  r.kernels = Kernels::torch_eager;
  r.launch = 24'900 * kNanosecond;             // 69 kernels of a Llama block take 501 and 1216 µs
  r.launch_collective = 27'600 * kNanosecond;  // dist.all_reduce
  r.hardware_connections = 8;                  // CUDA's default
  r.collective_waits_for_issued = true;        // ProcessGroupNCCL::syncStream
  r.kernels_wait_for_receives =
      true;  // pipelining/schedules.py awaits a stage's receives before it
  r.pipeline_orders = true;  // _PipelineScheduleRuntime takes any (docs/exporting.md)
  r.messages_apart = true;
  r.zero = {true, false, false, true};
  r.tensor_parallel = false;
  r.sequence_parallel = false;
  r.experts = false;
  // pipelining/schedules.py: GPipe, 1F1B, interleaved, looped BFS, zero bubble, ZB-V and DualPipeV;
  // others as a list of slots (_PipelineScheduleRuntime).
  r.pipeline_orders = true;
  r.grad_bytes = 2;
  r.master_weights = false;
  r.adds_gradients = true;
  r.bucket_elements = (25 * kMiB) / 2;  // DistributedDataParallel's bucket_cap_mb
  r.bucket_elements_per_rank = 0;
  r.workspace = kCublasWorkspace + kContext + kAllocatorSlack;
  r.communicator_buffers = kCommunicatorBuffers;
  return r;
}

// DeepSpeed 0.19's engine under Megatron-DeepSpeed's layers, with the defaults of its JSON. Nothing
// was measured: kernels are those of megatron-core, defaults are its source's.
Runtime deepspeed() {
  Runtime r = megatron_core();
  r.name = "deepspeed";
  r.launch = 9'600 * kNanosecond;  // an aten call of eager PyTorch (torch.jsonl, torch_launch)
  r.launch_collective = 27'600 * kNanosecond;  // as torch-eager
  r.hardware_connections = 8;                  // CUDA's default: DeepSpeed sets none
  r.host_waits_for_routing = false;            // drop_tokens: the capacity is known on the host
  r.replicates_shards = false;
  r.context_parallel = false;  // its Ulysses is not modelled
  r.sequence_parallel = false;
  r.interleaves = false;  // runtime/pipe/schedule.py has 1F1B alone
  r.capacity_factor = 1;  // moe/layer.py
  r.deepep = false;
  r.weaves = Weaves::no;
  // engine.py, communication_data_type: bf16 for bf16 training, and gradients stay so in ZeRO 2 and
  // 3 (stage_1_and_2.py). Its BF16_Optimizer, of stages 0 and 1, sums them in fp32 instead.
  r.grad_bytes = 2;
  r.adds_gradients = true;
  r.overlap_grad_reduce = false;    // zero/config.py: overlap_comm is on for ZeRO-3 alone
  r.overlap_param_gather = false;   // all partitions are gathered after the update
  r.bucket_elements = 500'000'000;  // zero/config.py: reduce_bucket_size, allgather_bucket_size
  r.bucket_elements_per_rank = 0;
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
  r.exchanges_in_steps = true;
  r.offloads_experts = true;
  r.places_gradients = true;
  r.pipeline_orders = true;
  r.weaves = Weaves::any;
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

// RAF, the compiler that Lancet is built into (arXiv 2404.19429, section 6): a compiled graph
// issued by a virtual machine in C++, products in fp32, attention in kernels of its own, gradients
// of the weights' precision, and experts of fixed capacity. No buckets: every weight's gradient is
// all-reduced on its own.
Runtime raf() {
  Runtime r;
  r.name = "raf";
  r.launch = 5'000 * kNanosecond;             // as our own executor's calls: assumed
  r.launch_collective = 8'000 * kNanosecond;  // likewise
  r.chunks_experts = true;
  r.exchanges_in_steps = true;
  r.offloads_experts = true;
  r.cuts_ranges = true;
  r.places_gradients = true;
  r.fused_attention = false;
  r.dropout = true;
  r.overlap_grad_reduce = true;
  r.overlap_param_gather = true;
  r.grad_bytes = 4;
  r.bucket_elements = 0;  // reduced weight by weight, a layer's weights together here
  r.bucket_elements_per_rank = 0;
  r.workspace = kCublasWorkspace + kContext;
  r.communicator_buffers = kCommunicatorBuffers;
  return r;
}

}  // namespace

std::span<const Runtime> built_in_runtimes() {
  static const std::array kRuntimes{megatron_core(), own_executor(), megatron_2022(),
                                    torch_eager(),   deepspeed(),    raf()};
  return kRuntimes;
}

std::string names_of_runtimes() {
  std::string all;
  for (const Runtime& r : built_in_runtimes()) all += (all.empty() ? "" : ", ") + r.name;
  return all;
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
