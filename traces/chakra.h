// Timelines as Chakra execution traces, one file a rank, as MLCommons' tools and ASTRA-sim read
// them.
//
// Field numbers are those of mlcommons/chakra, schema/protobuf/et_def.proto (package
// ChakraProtoMsg); a file is a GlobalMetadata and then Nodes, each behind its length. Attributes
// have the types that ASTRA-sim reads (astra-sim/workload, feeder_v3), where they are read:
//
//     kernel      COMP_NODE       is_cpu_op, num_ops, tensor_size
//     collective  COMM_COLL_NODE  is_cpu_op, comm_type, comm_size, comm_priority, pg_name
//     message     COMM_SEND_NODE, COMM_RECV_NODE: is_cpu_op, comm_size, comm_src, comm_dst,
//     comm_tag
//
// comm_size is what a rank gives: of an all-gather its share. pg_name is the number of a group, as
// text, that groups() lists; pg_desc its name. comm_tag is the same at both ends and no other
// message's. A step of a ring (context parallelism) is a send to the next member and a receive from
// the one before.
//
// Times are whole microseconds from the start of the step, each within one of the Timeline's; the
// durations of kernels that follow each other add up. "steploom.start_ps" and
// "steploom.duration_ps" (int64) are exact.
//
// Dependencies hold in the Timeline, so they have no circle: what an operator waits for and what
// its stream ran before, the operator that the host waited for last, and of a rank's collectives
// and sends the one before. ASTRA-sim runs one of these at a time on a rank; their order is that in
// which they could begin, all members of a collective being there, which all ranks agree on, so no
// rank waits for another in a circle. data_deps has all of these, for readers that follow nothing
// else; ctrl_deps those of order alone.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "sim/timeline.h"

namespace steploom {

class ChakraTrace {
 public:
  // Every device of `timeline`, which must outlive this, is one rank, and its number is the rank.
  // Throws Error if there are more messages than tags.
  explicit ChakraTrace(const Timeline& timeline);

  void write_rank(std::ostream& out, std::uint32_t rank) const;
  // ASTRA-sim's --comm-group-configuration: {"1": [0, 1], ...}.
  std::string groups() const;

 private:
  struct Node;
  bool is_ring_step(const TimelineEvent& e) const;
  void add_order(std::uint32_t event, std::vector<std::uint64_t>& deps) const;
  Node node_of(std::uint32_t event) const;

  const Timeline& t_;
  std::vector<std::uint32_t> first_event_;  // by rank, and the total
  std::vector<std::uint32_t> rendezvous_;   // by event: the meeting of a group's members that it is
  std::vector<std::uint32_t> in_stream_, waited_,
      sent_before_;  // by event: the one before, or none
};

}  // namespace steploom
