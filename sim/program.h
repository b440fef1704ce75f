// A Program: what a step does, on every device, ready to be replayed, exported and executed.
//
// Structure. A device issues a list of slots, each an instance of a block template (one forward
// pass of one micro-batch, say). A template is flat: its operators in the order in which the host
// issues them, with their dependencies inside the block. An operator of the Program is (slot,
// template index); its id is slot.first_op + index. All shapes, tensors and durations live in the
// template, only dynamic state is per operator.
//
// Order. On a device, slots are issued in list order and operators in template order; that is the
// one *issue order* of the device's host thread. Operators of a stream run in issue order. Further
// order comes from dependencies inside a block (always from a lower to a higher index), from slot
// edges (from an earlier to a later slot of the same device) and from communication.
//
// Communication. An operator with a role belongs to the communicator that its device has for that
// role. As in NCCL, the k-th operator that a member issues on a communicator meets the k-th of
// every other member. Nothing else joins devices.
//
// Load. Slots of one template may differ in how long some of its operators take (experts under
// uneven routing): these are numbered by OpTemplate::varies, and a slot has a row of durations.
// What experts hold grows with the rows that they get: BlockTemplate::routed says which bytes of
// which operator belong to which layer, and a slot has a share of even rows for each of its layers.
//
// Units: times in picoseconds, sizes in bytes, rates and shares as integers out of 65536.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/op_graph.h"
#include "models/work.h"
#include "sim/clock_law.h"
#include "sim/cost.h"

namespace steploom {

inline constexpr std::uint32_t kFullRate = 65536;

// What reports say of a template operator; never read by the engine.
struct OpInfo {
  std::string name;  // "layer 3 · fc1"
  Work work;
  CommGroup group = CommGroup::none;
  int layer = -1;
  bool recompute = false;
  bool routed = false;  // as OpNode has them
  int parts = 1;
  int part = 0;
  Provenance provenance = Provenance::modelled;
};

// How an operator touches a tensor of its block.
enum class AccessMode : std::uint8_t { write, read, free };
struct Access {
  std::uint32_t op = 0;      // template index
  std::uint32_t tensor = 0;  // index into Program::tensors of the device's tensor table
  AccessMode mode = AccessMode::read;
};

inline constexpr std::uint16_t kNoRole = 0xffff;
inline constexpr std::uint16_t kOneDuration = 0xffff;            // the same in every slot
inline constexpr std::uint32_t kTemplateDurations = 0xffffffff;  // a slot that has none of its own
inline constexpr std::uint32_t kEvenShares = 0xffffffff;         // a slot that has none of its own
inline constexpr std::uint16_t kNotRouted = 0xffff;              // none of its bytes are routed
inline constexpr std::uint32_t kNoCommunicator = 0xffffffff;

struct OpTemplate {
  Picoseconds duration = 0;  // alone on the device, at full speed
  Picoseconds launch = 0;    // host time to issue it
  // Least time on the device, picoseconds, from the end of the operator before it in its stream to
  // its start, and from the end of what it waits for on another stream.
  std::uint32_t stream_gap = 0, event_latency = 0;
  std::uint32_t microjoules = 0;  // drawn above idle; step_clock.h
  std::uint16_t mhz = 0;          // SM clock that its duration is of; 0: it depends on none
  Picoseconds wave = 0;  // how long its blocks take to retire and free SMs for others; 0: at once
  Bytes alloc = 0;       // taken when it starts
  Bytes free = 0;        // given back when it ends
  std::uint32_t first_dep = 0;     // into BlockTemplate::deps
  std::uint16_t deps = 0;          // how many
  std::uint16_t stream = 0;        // of its device
  std::uint16_t role = kNoRole;    // communicator role of its device; kNoRole: a kernel
  std::uint16_t kernel_class = 0;  // row of the contention tables
  std::uint16_t sms_wanted = 0;    // SMs it can use; a collective: its CTA count
  std::uint16_t sms_least = 1;     // kernels: the fewest it can start on (a collective needs all)
  // Its place among those operators of the block whose duration a slot may have of its own
  // (Slot::durations), or kOneDuration.
  std::uint16_t varies = kOneDuration;
  std::uint16_t link_share = 0;  // of its communicator's link uses, what it draws at full speed
  std::uint16_t routed = kNotRouted;  // its first one in BlockTemplate::routed
  std::int8_t priority = 0;           // lower is admitted first, as CUDA's stream priorities
  bool persistent = false;            // its blocks stay to the end instead of retiring in waves
  bool host_waits = false;  // the host issues nothing more on this device until it has finished
  bool eager = false;       // point to point below NCCL's buffer: the sender does not wait
  bool sender = false;      // point to point: this member sends
  bool beside = false;      // of the slot's second micro-batch (Slot::beside)
};

// Part of an operator's `alloc` or `free`: a tensor that grows with the rows of a layer's experts.
struct RoutedBytes {
  std::uint32_t op = 0;
  std::int32_t layer = 0;   // of the model
  std::uint32_t share = 0;  // which of the slot's shares; set by number_routed()
  bool free = false;        // of `free`, else of `alloc`
  Bytes bytes = 0;          // under even routing
};

struct BlockTemplate {
  std::string name;                 // "F", "B", "optimizer"
  std::vector<OpTemplate> ops;      // issue order
  std::vector<std::uint32_t> deps;  // template indices, each lower than its operator's
  std::vector<OpInfo> infos;        // one an operator
  std::vector<Access> accesses;     // sorted by op; for check()
  std::vector<RoutedBytes> routed;  // sorted by op once numbered
};

enum class SlotKind : std::uint8_t {
  forward,
  backward,         // gradients of data and weights together
  backward_data,    // of what the block was given alone: B
  backward_weight,  // of its parameters, later: W
  pair,             // a forward pass, and a backward pass of another micro-batch, woven together
  optimizer
};

struct Slot {
  std::uint32_t block = 0;       // into Program::blocks
  std::int32_t micro_batch = 0;  // -1: once a step
  SlotKind kind = SlotKind::forward;
  std::int32_t beside = -1;    // pair: the micro-batch of the backward pass
  std::uint32_t first_op = 0;  // id of its first operator; set by finalize()
  // Into Program::durations: where those of its operators that vary begin; or kTemplateDurations.
  std::uint32_t durations = kTemplateDurations;
  // Into Program::shares: where those of its layers with routed bytes begin; or kEvenShares.
  std::uint32_t shares = kEvenShares;
};

// Operator `to_op` of slot `to_slot` waits for `from_op` of `from_slot`; same device.
struct SlotEdge {
  std::uint32_t from_slot = 0, from_op = 0;
  std::uint32_t to_slot = 0, to_op = 0;
};

struct ProgramTensor {
  std::string name;
  Bytes bytes = 0;
  TensorScope scope = TensorScope::micro_batch;
  TensorId whole = kNoTensor;  // a slice, as models/op_graph.h has it: what it is a slice of
  Bytes offset = 0;            // a slice: its first byte in the whole
};

struct Device {
  std::string name;               // "stage 0"
  std::int32_t stage = 0;         // pipeline stage
  std::uint16_t type = 0;         // of device, by number, where a cluster has several
  std::int32_t multiplicity = 1;  // ranks that this device stands for (folded Programs)
  std::uint16_t streams = 1;
  std::uint16_t sms = 132;
  std::uint16_t mhz = 0;                    // SM clock over the step; 0: unknown
  std::uint16_t hardware_connections = 32;  // 1: kernels start in issue order across streams
  std::uint32_t tensor_table = 0;           // into Program::tensor_tables
  Bytes static_bytes = 0;                   // parameters, gradients, optimizer, buffers, workspace
  std::uint32_t first_slot = 0;             // its slots are contiguous in Program::slots
  std::uint32_t slot_count = 0;
  std::vector<std::uint32_t> communicator_of_role;  // role -> communicator, or kNoCommunicator
};

struct LinkUse {
  std::uint32_t link = 0;
  std::uint32_t share =
      0;  // of the link's capacity at full speed, times multiplicity, out of 65536
};

struct Communicator {
  std::string name;                    // "ep of stage 0"
  std::vector<std::uint32_t> members;  // devices
  std::vector<LinkUse> uses;
  std::uint32_t ranks = 0;  // of the group; 0: as many as members (folded: often more)
};

struct Program {
  std::vector<BlockTemplate> blocks;
  std::vector<Device> devices;
  std::vector<Slot> slots;  // device after device
  std::vector<SlotEdge> edges;
  std::vector<Communicator> communicators;
  std::uint32_t links = 0;                  // each of capacity kFullRate
  std::vector<std::string> kernel_classes;  // names of the rows of the contention tables
  std::vector<std::string> stream_names;    // for traces
  std::vector<std::vector<ProgramTensor>> tensor_tables;
  std::vector<Picoseconds> durations;  // of slots whose load is their own
  std::vector<std::uint32_t> shares;   // likewise: rows over even ones, out of 65536, rounded up
  // Durations are those that were measured, and their clocks are to be found (step_clock.h);
  // unknown once they are, or where the profile has none.
  ClockLaw clock;
  std::vector<ClockLaw> clock_of_type;  // by Device::type, in place of `clock`; empty: one for all

  // Derived by finalize(), which must be called once after building and before any use.
  std::uint32_t op_count = 0;
  struct Adjacency {
    std::vector<std::uint32_t> first;  // size n + 1
    std::vector<std::uint32_t> items;
  };
  std::vector<Adjacency> block_successors;  // inside a block, by template index
  Adjacency edges_into_slot;                // indices into edges, sorted by to_op
  Adjacency edges_out_of_slot;              // indices into edges, sorted by from_op
  std::vector<std::uint32_t> device_of_slot;
  // Communication operators are numbered in id order; those of slot s begin at first_comm_op[s].
  std::vector<std::uint32_t> first_comm_op;  // size slots + 1
  std::vector<std::uint32_t> rendezvous_of;  // communication operator -> rendezvous
  // A rendezvous: the k-th operators of a communicator's members. Numbered communicator after
  // communicator, in order of k. A member that issues fewer operators is missing from the last
  // ones.
  Adjacency rendezvous_ops;  // operator ids, by device
  std::vector<std::uint32_t> communicator_of_rendezvous;
};

// The law of a device's clock, if it is still to be found.
const ClockLaw& clock_of(const Program& program, const Device& device);
bool clocks_unknown(const Program& program);  // is any?

// Throws Error on a structural fault: an index out of range, a dependency on a later operator, an
// operator that asks for more SMs than its device has, times beyond 2^61 ps in all.
void validate(const Program& program);

// Numbers the operators, sorts slot edges by target and fills the derived members; validates first.
// What the engine merely adds up (times, SMs, classes, shares, bytes, link uses) may be changed
// afterwards without finalizing again, within what validate() allows; structure may not.
void finalize(Program& program);

// "gpu0 · F 3 · layer 1 fc1": device, block, micro-batch and operator, for messages.
std::string describe_op(const Program& program, std::uint32_t op);

// Of a pair, its operators have one or the other.
inline std::int32_t micro_batch_of(const Slot& slot, const OpTemplate& op) {
  return op.beside ? slot.beside : slot.micro_batch;
}

// How long a template operator takes in a slot, alone on the device.
inline Picoseconds duration_in(const Program& program, const Slot& slot, const OpTemplate& op) {
  return op.varies == kOneDuration || slot.durations == kTemplateDurations
             ? op.duration
             : program.durations[std::size_t{slot.durations} + op.varies];
}

// Bytes under a share of even rows; rounded up, so that even ones stay what they are and the mean
// of several ranks is no less.
inline Bytes routed_bytes(Bytes even, std::uint32_t share) {
  constexpr Bytes kWhole = kFullRate;
  return even / kWhole * share + (even % kWhole * share + kWhole - 1) / kWhole;
}

// What a template operator takes in a slot when it starts, or (`free`) gives back when it ends.
Bytes changed_in(const Program& program, const Slot& slot, std::uint32_t op, bool free);

// The slot that an operator id belongs to.
std::uint32_t slot_of_op(const Program& program, std::uint32_t op);

}  // namespace steploom
