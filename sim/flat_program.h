// The Program as the sweeps read it: every template's operators in one compact array.
//
// Built once a replay in O(templates + slots + edges); nothing here is per operator. Shared by
// relax, the engine and check. Two ideas need explaining:
//
// Host issue times. A device's host issues in Program order and stops only where it waits for an
// operator (host_waits). A slot is therefore cut into *segments*, one more than it has host waits;
// an operator is issued at (its segment's base) + FlatOp::issue, where the base is known once the
// host has come that far. So issue times cost eight bytes a segment and none an operator.
//
// Stream lists. The operators of a stream are those of its block in each slot, slot after slot; a
// stream's head is a slot and a position in a list that all slots of the block share.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sim/program.h"

namespace steploom {

// Later than any time: the end of an operator that has not ended. Adding a time cannot overflow.
inline constexpr Picoseconds kUnknown = Picoseconds{1} << 62;
// The end of what never was, the operator before a stream's first: with any gap still before 0.
inline constexpr Picoseconds kNothingBefore = -kUnknown;
inline constexpr std::uint32_t kNoOp = 0xffffffff;

struct FlatOp {
  Picoseconds duration = 0;
  Picoseconds issue = 0;         // host time from its segment's base until it has been issued
  std::uint32_t stream_gap = 0;  // picoseconds, as OpTemplate has them
  std::uint32_t event_latency = 0;
  std::uint32_t first_dep = 0;     // into FlatProgram::deps
  std::uint32_t comm_ordinal = 0;  // communication operators before it in the block
  std::uint16_t deps = 0;
  std::uint16_t stream = 0;
  std::uint16_t role = kNoRole;
  std::uint16_t segment = 0;            // host waits before it in the block
  std::uint16_t varies = kOneDuration;  // as OpTemplate has it
  std::uint16_t link_share = 0;         // likewise
  bool host_waits = false;
  bool eager = false;
  bool sender = false;
};

struct FlatBlock {
  std::uint32_t first_op = 0;    // into FlatProgram::ops
  std::uint32_t first_wait = 0;  // into FlatProgram::waits
  std::uint32_t waits = 0;       // operators that the host waits for
  std::uint32_t first_list = 0;  // stream lists: into FlatProgram::list_first
  std::uint32_t lists = 0;       // one for every stream up to the highest used
  Picoseconds tail = 0;          // host time of the last segment
};

class FlatProgram {
 public:
  // `program` must be finalized and outlive this.
  explicit FlatProgram(const Program& program);

  const Program& program;
  std::vector<FlatOp> ops;
  std::vector<std::uint32_t> deps;   // template indices, of other streams than the operator's
  std::vector<std::uint32_t> waits;  // template indices
  std::vector<FlatBlock> blocks;
  std::vector<std::uint32_t> list_first;     // bounds in list_items, lists + 1 entries a block
  std::vector<std::uint32_t> list_items;     // template indices
  std::vector<std::uint32_t> first_stream;   // by device, and the total: streams of all devices
  std::vector<std::uint32_t> first_segment;  // by slot, and the total
  std::vector<std::uint32_t> edge_source;    // by slot edge: operator id
  std::vector<std::uint32_t> edge_latency;   // by slot edge: picoseconds; 0 inside a stream

  const FlatOp* block_ops(std::uint32_t slot) const {
    return &ops[blocks[program.slots[slot].block].first_op];
  }
  // Template indices of a stream's operators in a slot.
  std::span<const std::uint32_t> stream_ops(std::uint32_t slot, std::uint32_t stream) const {
    const FlatBlock& block = blocks[program.slots[slot].block];
    if (stream >= block.lists) return {};
    const std::uint32_t* bounds = &list_first[block.first_list + stream];
    return {list_items.data() + bounds[0], bounds[1] - bounds[0]};
  }
  // How long an operator takes in a slot.
  Picoseconds duration(std::uint32_t slot, const FlatOp& op) const {
    if (op.varies == kOneDuration) return op.duration;
    const std::uint32_t own = program.slots[slot].durations;
    return own == kTemplateDurations ? op.duration
                                     : program.durations[std::size_t{own} + op.varies];
  }
  // The rendezvous of a communication operator.
  std::uint32_t rendezvous(std::uint32_t slot, const FlatOp& op) const {
    return program.rendezvous_of[program.first_comm_op[slot] + op.comm_ordinal];
  }
  // Does this operator meet others? Alone in its communicator it is as good as a kernel.
  bool meets_others(const Device& device, const FlatOp& op) const {
    return op.role != kNoRole &&
           program.communicators[device.communicator_of_role[op.role]].members.size() > 1;
  }
};

}  // namespace steploom
