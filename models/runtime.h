// What a framework makes of an operator graph: host time, stream semantics, what it keeps.
//
// Most of a small model's step under an eager framework is not in its matrix products. A Runtime
// says how long the host takes to issue a kernel, where the host must wait for the device, how a
// collective is ordered against kernels that were issued before it, and how gradients and
// parameters are kept. Built-ins are rows of a table in runtime.cpp.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "models/work.h"

namespace steploom {

// What an operator of a graph is launched as.
enum class Kernels : std::uint8_t {
  fused,        // one kernel each
  torch_eager,  // PyTorch's own, several each (eager_kernels.h)
};

enum class Weaves : std::uint8_t { no, interleaved, any };

struct Runtime {
  std::string name;  // "megatron-core"
  Kernels kernels = Kernels::fused;
  Picoseconds launch = 0;             // host time to issue one kernel (OpNode::launches: of each)
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
  // Can exchange experts' rows in steps between pairs of groups (Layout::pairwise), and keep
  // experts in host memory (Layout::offload); off: rules refuse it. `plan` tries neither.
  bool exchanges_in_steps = false;
  bool offloads_experts = false;
  // Can cut ranges of the forward pass around the experts' exchanges (Layout::partition).
  bool cuts_ranges = false;
  // Can run the weight gradients of a backward pass elsewhere in it (Layout::dw), and gradient
  // collectives of any size in any order (Layout::bucket, grad_micro, a2a_first); off: `plan` tries
  // none.
  bool places_gradients = false;
  // Layouts that it can run: ZeRO stages over several replicas (Layout::zero), tensor parallelism,
  // with the sequence cut too (Layout::sp); and models with experts.
  std::array<bool, 4> zero{true, true, false, false};
  bool tensor_parallel = true;
  bool sequence_parallel = true;
  bool experts = true;
  bool replicates_shards = false;  // can run several copies of shards (Layout::replicate)
  // Can run context parallelism (Layout::cp); off: rules refuse it, `plan` tries none.
  bool context_parallel = false;
  bool interleaves = true;  // can run several chunks a pipeline rank (Layout::vpp)
  // Every expert has room for capacity_factor times its even share of a rank's rows, and all of it
  // is exchanged and computed (capacity_experts.h); 0: experts take what they get.
  double capacity_factor = 0;
  // Can run pipeline schedules other than 1F1B, interleaved or not, and weight gradients as passes
  // of their own (Layout::schedule); off: rules refuse them, `plan` tries none.
  bool pipeline_orders = false;
  // Messages between pipeline ranks are issued as torch.distributed.pipelining issues them: beside
  // the passes, in the order of its lowering (planner/torch_actions.h), all on one stream; a first
  // stage runs all of its backward pass where weight gradients would be.
  bool messages_apart = false;
  // Can run forward and backward passes woven together (Layout::weave): not, with one stage or
  // several chunks a rank, or always; no: rules refuse it, `plan` tries none.
  Weaves weaves = Weaves::no;
  // Operators name everything that their kernels touch, statistics and routing included, in the
  // order of operands.h: what can be executed. Off: only what fixes order and most of the memory.
  bool complete_operands = false;
  bool fused_attention =
      true;              // one kernel; false: products, softmax, dropout (core_attention.cpp)
  bool dropout = false;  // of attention, branches and embedding, with masks of a byte
  bool overlap_grad_reduce = true;   // reduce a bucket as soon as its last gradient is there
  bool overlap_param_gather = true;  // ZeRO-1: gather parameters beside the first forward pass
  Bytes grad_bytes = 4;              // per parameter, as accumulated and reduced
  // 16-bit parameters have fp32 copies that the optimizer works on (optimizer.h).
  bool master_weights = true;
  // A weight gradient is a tensor of its own (Work::fresh), which kernels add to those of the
  // micro-batches before; off: products add to the sums.
  bool adds_gradients = false;
  Bytes bucket_elements = 40'000'000;  // least gradient bucket, elements (Megatron: max of this ...
  Bytes bucket_elements_per_rank = 1'000'000;  // ... and this times the data-parallel size)
  Bytes workspace = 0;                         // cuBLAS and allocator slack a device, bytes
  Bytes communicator_buffers = 0;              // NCCL buffers per communicator a device, bytes
  // Can cut products beside the communication of tensor parallelism (Layout::tp_overlap); off:
  // rules refuse it, `plan` tries none.
  bool overlaps_tp = false;
  // Can exchange experts' rows by DeepEP's kernels (Layout::dispatcher); off: rules refuse it.
  bool deepep = false;
};

std::span<const Runtime> built_in_runtimes();
std::string names_of_runtimes();  // "megatron-core, steploom, ...", for help
// Throws Error naming the nearest known name.
const Runtime& runtime_named(std::string_view name);

}  // namespace steploom
