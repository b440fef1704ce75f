// A Timeline: what happened when on every device, and how full its memory was.
//
// One type whether a step was simulated, executed or imported from a trace, so any two compare. It
// stands alone: names are indices into its own string table, nothing points into a Program.
//
// Events lie device after device, on each device in the order in which its host issued them
// (imported ones: in which they started); in a simulated Timeline an event's index is its
// operator's id. An operator that waits for its peers has started: its event includes the wait.
// Events of one stream do not overlap, but for imported ones whose launches the GPU overlapped.
//
// What a source cannot know is kUnknownTime, an empty string or an empty list, never a guess.
//
// Units: picoseconds from the start of the step, bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/op_graph.h"
#include "models/work.h"
#include "sim/cost.h"
#include "sim/engine.h"
#include "sim/program.h"

namespace steploom {

inline constexpr std::uint32_t kNoEvent = 0xffffffff;
inline constexpr std::uint32_t kNoGroup = 0xffffffff;
inline constexpr Picoseconds kUnknownTime = -1;

enum class TimelineSource : std::uint8_t {
  simulated,  // replayed from a Program
  executed,   // a Program run by steploom's own executor
  imported,   // read from a trace of another program
};
inline constexpr int kTimelineSources = static_cast<int>(TimelineSource::imported) + 1;
std::string_view name_of(TimelineSource s);  // "simulated"

// How far repeated measurements of one step lie apart: steps are timed in blocks.
struct Repeats {
  std::int32_t blocks = 0;
  Picoseconds lower_quartile = 0;  // of the blocks' time a step
  Picoseconds upper_quartile = 0;
  double repeatability = 0;  // r: what two equal runs may differ by, as a share of the step
};

// What a Timeline is of.
struct TimelineOrigin {
  TimelineSource source = TimelineSource::simulated;
  std::string model;    // "mixtral-8x7b"
  std::string cluster;  // "8 × h100-sxm-80gb"
  std::string layout;   // as layout.h writes it
  std::string runtime;  // "megatron-core"
  std::string profile;  // its name; simulated only
  std::string profile_digest;
  std::string plan_digest;  // digest_of() the plan as to_json() writes it
  std::string engine;       // engine_signature(); simulated only
  std::string date;  // UTC, "2026-11-22T20:12:00Z"; empty where the same input gives the same
  std::vector<std::pair<std::string, std::string>> versions;  // "cuda" "13.0", "nccl" "2.28.3"
  std::int32_t steps = 1;                                     // that `step` is the median of
  Picoseconds step = 0;                                       // measured: the median
  std::optional<Repeats> repeats;                             // measured, if repeated
};

struct TimelineDevice {
  std::string name;               // "rank 8 (stage 1)"
  std::int32_t stage = 0;         // pipeline stage
  std::int32_t multiplicity = 1;  // ranks that it stands for
  std::uint16_t sms = 0;          // 0: unknown
  Bytes peak_memory = 0;          // static part included; 0: unknown
  Bytes static_memory = 0;        // parameters, gradients, optimizer, buffers; 0: unknown
  std::uint16_t mhz = 0;          // SM clock over the step; 0: unknown
};

// A process group as one of its communicators.
struct TimelineGroup {
  std::string name;                    // "ep of rank 0"
  std::uint32_t ranks = 0;             // real ones, not folded
  std::vector<std::uint32_t> members;  // devices
};

inline constexpr int kSlotKinds = static_cast<int>(SlotKind::optimizer) + 1;
std::string_view name_of(SlotKind k);  // "forward"

// A slot of a device's schedule: one pass of one micro-batch.
struct TimelineSlot {
  std::uint32_t device = 0;
  std::uint32_t name = 0;        // into Timeline::names: "F", "B", "optimizer"
  std::int32_t micro_batch = 0;  // -1: once a step
  SlotKind kind = SlotKind::forward;
  std::int32_t beside = -1;  // pair: the micro-batch of the backward pass
};

struct TimelineEvent {
  Picoseconds start = 0;
  Picoseconds end = 0;
  Picoseconds issued = kUnknownTime;  // its host had issued it; not after start
  // A collective or message: from here on it could progress, the last of its members being there.
  // Within [start, end].
  Picoseconds joined = kUnknownTime;
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
  bool sender = false;      // point to point: this is the sending end
  bool recompute = false;   // a forward operator run again in the backward pass
  bool host_waits = false;  // its host issues nothing more until it has finished
  Bytes bytes = 0;          // as Work::bytes; 0: unknown
  double flops = 0;         // as Work::flops; 0: none or unknown
};

struct Timeline {
  TimelineOrigin origin;
  Picoseconds makespan = 0;          // of the step whose events these are
  std::vector<std::string> names;    // string table, no string twice
  std::vector<std::string> streams;  // by stream number, the same on every device
  std::vector<TimelineDevice> devices;
  std::vector<TimelineGroup> groups;
  std::vector<TimelineSlot> slots;    // device after device, in issue order
  std::vector<TimelineEvent> events;  // see above
  std::vector<MemorySample> memory;   // by time; empty unless recorded
  // What event e waits for besides its stream, its host and its peers: the earlier events
  // waits[first_wait[e]] to waits[first_wait[e + 1] - 1] of its device. Both empty: unknown.
  std::vector<std::uint32_t> first_wait;  // size events + 1
  std::vector<std::uint32_t> waits;
};

// `replay` must be of `program`. Memory samples are there if the replay recorded them. Of the
// origin only source, engine and step are filled.
Timeline make_timeline(const Program& program, const Replay& replay);

}  // namespace steploom
