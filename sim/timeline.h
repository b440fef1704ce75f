// A Timeline: what happened when on every device, and how full its memory was.
//
// One type whether a step was simulated, executed or imported from a trace, so any two compare. It
// stands alone: names are indices into its own string table, nothing points into a Program.
//
// Events lie device after device, on each device in the order in which its host issued them; in a
// simulated Timeline an event's index is its operator's id. An operator that waits for its peers
// has started: its event includes the wait. Events of one stream do not overlap.
//
// Units: picoseconds from the start of the step, bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/op_graph.h"
#include "models/work.h"
#include "sim/cost.h"
#include "sim/engine.h"
#include "sim/program.h"

namespace steploom {

inline constexpr std::uint32_t kNoEvent = 0xffffffff;
inline constexpr std::uint32_t kNoGroup = 0xffffffff;

struct TimelineDevice {
  std::string name;               // "rank 8 (stage 1)"
  std::int32_t stage = 0;         // pipeline stage
  std::int32_t multiplicity = 1;  // ranks that it stands for
  std::uint16_t sms = 0;          // 0: unknown
  Bytes peak_memory = 0;
};

// A process group as one of its communicators.
struct TimelineGroup {
  std::string name;                    // "ep of rank 0"
  std::uint32_t ranks = 0;             // real ones, not folded
  std::vector<std::uint32_t> members;  // devices
};

// A slot of a device's schedule: one pass of one micro-batch.
struct TimelineSlot {
  std::uint32_t device = 0;
  std::uint32_t name = 0;        // into Timeline::names: "F", "B", "optimizer"
  std::int32_t micro_batch = 0;  // -1: once a step
  SlotKind kind = SlotKind::forward;
};

struct TimelineEvent {
  Picoseconds start = 0;
  Picoseconds end = 0;
  std::uint32_t device = 0;
  std::uint32_t slot = 0;          // into Timeline::slots
  std::uint32_t name = 0;          // into Timeline::names: "layer 3 · fc1"
  std::uint32_t group = kNoGroup;  // into Timeline::groups; kNoGroup: does not communicate
  std::uint32_t peer = kNoEvent;   // point to point: the event at the other end
  std::int32_t layer = -1;         // -1: embedding, head, optimizer
  std::uint16_t stream = 0;        // into Timeline::streams
  OpKind kind = OpKind::matmul;
  Phase phase = Phase::forward;
  Precision precision = Precision::bf16;
  CommGroup group_kind = CommGroup::none;
  Provenance provenance = Provenance::modelled;
  bool sender = false;     // point to point: this is the sending end
  bool recompute = false;  // a forward operator run again in the backward pass
  Bytes bytes = 0;         // as Work::bytes
};

struct Timeline {
  Picoseconds makespan = 0;
  std::vector<std::string> names;    // string table, no string twice
  std::vector<std::string> streams;  // by stream number, the same on every device
  std::vector<TimelineDevice> devices;
  std::vector<TimelineGroup> groups;
  std::vector<TimelineSlot> slots;    // device after device, in issue order
  std::vector<TimelineEvent> events;  // see above
  std::vector<MemorySample> memory;   // by time; empty unless recorded
};

// `replay` must be of `program`. Memory samples are there if the replay recorded them.
Timeline make_timeline(const Program& program, const Replay& replay);

}  // namespace steploom
