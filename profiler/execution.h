// What one rank executes: a Program's operators as calls with resolved operands, ready to be
// issued.
//
// An Execution holds a rank's memories and parameters, its communicators and streams, and its calls
// in issue order (slot after slot, operator after operator, the Program's own order). To run a
// step, a host walks the calls: for each, wait() on the call's events on its stream, launch(),
// record() the call's event if it has one. That is enough for correctness: waits hold exactly the
// Program's dependencies and slot edges that cross streams; everything else is stream order.
//
// Steps are not ordered among each other: between two of them the host waits for all launches.
//
// Micro-batch tensors lie in one arena. Two of them share bytes only where the Program orders every
// use of the one before the first write of the other (vector clocks over streams, dependencies and
// slot edges), so no timing can make them collide. Offsets are multiples of kArenaAlignment
// (arena.h).
//
// Ranks are those of the unfolded Program: device r is rank r. Sizes in bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/op_graph.h"
#include "profiler/kernel_calls.h"

namespace steploom {

// An allocation, by its place in Execution::memories.
enum class MemoryKind : std::uint8_t {
  arena,       // micro-batch tensors
  parameters,  // bf16: dense units, then experts, in the order of the parameter list
  gradients,   // fp32, the same order
  master,      // fp32, of what this rank updates: the pieces of its Adam call, one after the other
  first,       // Adam's moments, likewise
  second,
  constants,  // rotary table, square of the gradient norm
  tokens,     // int32: ids, then targets, [micro-batches · tokens, 1] each
  loss,       // fp32, [micro-batches · tokens, 1]
  tape,       // int32: routing, if recorded or replayed
};
inline constexpr int kMemoryKinds = static_cast<int>(MemoryKind::tape) + 1;

struct MemorySpec {
  MemoryKind kind = MemoryKind::arena;
  Bytes bytes = 0;  // 0: not needed, still numbered
};

// A process group of this rank.
struct CommunicatorSpec {
  std::string name;                   // "ep of rank 0"
  CommGroup group = CommGroup::none;  // by which role this rank is in it
  std::uint32_t id = 0;               // Program's number, the same on every member
  std::vector<int> ranks;             // in order; messages: sender, receiver
  int index = 0;                      // of this rank in `ranks`
  int ctas = 0;                       // most that its operators want (OpTemplate::sms_wanted)
  int priority = 0;                   // as CUDA's stream priorities: lower first
};

struct StreamSpec {
  std::string name;
  int priority = 0;
};

// One operator of the Program.
struct Call {
  std::uint32_t op = 0;     // Program's operator id
  std::uint32_t slot = 0;   // Program's slot
  std::uint32_t index = 0;  // in the slot's block
  KernelCall kernel;
  int stream = 0;
  std::vector<std::uint32_t> waits;  // events, before it starts
  std::int32_t event = -1;           // recorded when it has ended; -1: nothing waits for it
  bool host_waits = false;           // the host issues nothing more until it has ended
  std::vector<TensorRef> begins;     // arena tensors whose life begins here: undefined before
  std::vector<TensorRef> ends;       // arena tensors whose life ends with it
};

// Where a parameter tensor, or a rank's shard of one, lies.
struct BoundParameter {
  std::string name;                  // the same on every rank: "layer 3 · qkv · weight"
  std::int64_t rows = 0, width = 0;  // of the shard
  TensorRef value;                   // bf16
  TensorRef gradient;                // fp32
  std::size_t entry = 0;             // of the stage's parameter list (models/parameter_list.h)
};

// What a router's calls for one micro-batch chose, if routing is recorded or replayed.
struct RoutingEntry {
  int layer = 0;
  std::int32_t micro_batch = 0;
  std::int64_t first_token = 0;  // of the global batch, of the tape's first row
  TensorRef tape;                // [tokens, top_k] int32, as Router has it
};

struct Execution {
  int rank = 0;
  std::vector<MemorySpec> memories;  // by MemoryKind
  std::vector<CommunicatorSpec> communicators;
  std::vector<StreamSpec> streams;
  std::uint32_t events = 0;
  std::vector<Call> calls;  // issue order
  std::vector<BoundParameter> parameters;
  std::vector<RoutingEntry> routing;
  TensorRef ids, targets, loss;     // [micro-batches · tokens, 1]; absent where the stage has none
  TensorRef rotary;                 // [sequence, head_dim], as Rotary has it; absent without
  TensorRef squares;                // [1, 1], of all gradients
  std::int64_t first_sequence = 0;  // of the global batch: the first of micro-batch 0 on this rank
  std::int64_t sequence_stride = 0;  // from one micro-batch's first to the next one's
  Bytes live_peak = 0;  // of arena tensors, in issue order: what a perfect arena would need
};

}  // namespace steploom
