// What a framework makes of an operator graph: host time, stream semantics, what it keeps.
//
// Most of a small model's step under an eager framework is not in its matrix products. A Runtime
// says how long the host takes to issue a kernel, where the host must wait for the device, how a
// collective is ordered against kernels that were issued before it, and how gradients and
// parameters are kept. Built-ins are rows of a table in runtime.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "models/work.h"

namespace steploom {

struct Runtime {
  std::string name;                   // "megatron-core"
  Picoseconds launch = 0;             // host time to issue one kernel
  Picoseconds launch_collective = 0;  // host time to issue one collective
  int hardware_connections = 32;  // CUDA_DEVICE_MAX_CONNECTIONS; 1: kernels start in issue order
  // torch's ProcessGroupNCCL makes a collective wait for everything issued to the compute stream
  // before it, needed or not.
  bool collective_waits_for_issued = false;
  // Megatron-Core awaits a receive before it issues anything of the pass that needs it, so that
  // recomputation does not run while the gradient is on its way.
  bool kernels_wait_for_receives = false;
  // A receive starts when its device has computed all but this many slots before its own, so that
  // few buffers wait to be filled; 0: as soon as its stream is free.
  int receive_ahead = 0;
  // A slot computes when the messages that were sent this many slots before have left, so that few
  // buffers wait to leave; 0: never waits.
  int sends_under_way = 0;
  // The host reads how many tokens each expert got before it can issue the expert products.
  bool host_waits_for_routing = false;
  // Can run the experts of a layer in chunks, beside their all-to-all (Layout::chunks); off: `plan`
  // tries none.
  bool chunks_experts = false;
  int most_zero = 1;               // the highest ZeRO stage that it can run (Layout::zero)
  bool replicates_shards = false;  // can run several copies of shards (Layout::replicate)
  // Can run context parallelism (Layout::cp); off: rules refuse it, `plan` tries none.
  bool context_parallel = false;
  // Operators name everything that their kernels touch, statistics and routing included, in the
  // order of operands.h: what can be executed. Off: only what fixes order and most of the memory.
  bool complete_operands = false;
  bool fused_attention =
      true;              // one kernel; false: products, softmax, dropout (core_attention.cpp)
  bool dropout = false;  // of attention, branches and embedding, with masks of a byte
  bool overlap_grad_reduce = true;     // reduce a bucket as soon as its last gradient is there
  bool overlap_param_gather = true;    // ZeRO-1: gather parameters beside the first forward pass
  Bytes grad_bytes = 4;                // per parameter, as accumulated and reduced
  Bytes bucket_elements = 40'000'000;  // least gradient bucket, elements (Megatron: max of this ...
  Bytes bucket_elements_per_rank = 1'000'000;  // ... and this times the data-parallel size)
  Bytes workspace = 0;                         // cuBLAS and allocator slack a device, bytes
  Bytes communicator_buffers = 0;              // NCCL buffers per communicator a device, bytes
  // Can cut products beside the communication of tensor parallelism (Layout::tp_overlap); off:
  // rules refuse it, `plan` tries none.
  bool overlaps_tp = false;
};

std::span<const Runtime> built_in_runtimes();
// Throws Error naming the nearest known name.
const Runtime& runtime_named(std::string_view name);

}  // namespace steploom
