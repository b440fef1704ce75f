#include "traces/perfetto_trace.h"

#include <algorithm>
#include <ostream>
#include <string_view>
#include <vector>

#include "traces/protobuf.h"
#include "traces/slot_ranges.h"

namespace steploom {
namespace {

// Trace.
constexpr int kPacket = 1;
// TracePacket.
constexpr int kTimestamp = 8;
constexpr int kSequence = 10;
constexpr int kTrackEvent = 11;
constexpr int kSequenceFlags = 13;
constexpr int kTrackDescriptor = 60;
// TrackEvent, and its types.
constexpr int kAnnotation = 4;
constexpr int kType = 9;
constexpr int kTrack = 11;
constexpr int kCategories = 22;
constexpr int kName = 23;
constexpr int kCounterValue = 30;
constexpr int kFlow = 47;
constexpr int kTerminatingFlow = 48;
enum class EventType : std::uint64_t { begin = 1, end = 2, instant = 3, counter = 4 };
// TrackDescriptor and its parts.
constexpr int kUuid = 1;
constexpr int kTrackName = 2;
constexpr int kProcess = 3;
constexpr int kParent = 5;
constexpr int kCounter = 8;
constexpr int kPid = 1;
constexpr int kProcessName = 6;
constexpr int kCounterUnit = 3;
constexpr std::uint64_t kBytesUnit = 3;  // UNIT_SIZE_BYTES
// DebugAnnotation.
constexpr int kAnnotationInt = 4;
constexpr int kAnnotationText = 6;
constexpr int kAnnotationName = 10;

constexpr std::uint64_t kTheSequence = 1;
constexpr std::uint64_t kStateCleared = 1;  // SEQ_INCREMENTAL_STATE_CLEARED

constexpr Picoseconds kNanosecond = 1000;

class Writer {
 public:
  Writer(std::ostream& out, const Timeline& t) : out_(out), t_(t) {}

  void write() {
    for (std::uint32_t d = 0; d < t_.devices.size(); ++d) tracks(d);
    for (std::uint32_t e = 0; e < t_.events.size(); ++e) slice(e);
    for (const SlotRange& r : slot_ranges(t_)) slot(r);
    for (const MemorySample& m : t_.memory) memory(m);
    for (std::uint32_t e = 0; e < t_.events.size(); ++e) arrival(e);
    flush();
  }

 private:
  static constexpr std::size_t kFlushAt = std::size_t{1} << 16;

  // Tracks of a device: itself, its streams, its slots, its memory. Zero is no uuid.
  std::uint64_t device_track(std::uint32_t device) const {
    return 1 + std::uint64_t{device} * (t_.streams.size() + 3);
  }
  std::uint64_t stream_track(std::uint32_t device, std::size_t stream) const {
    return device_track(device) + 1 + stream;
  }
  std::uint64_t slot_track(std::uint32_t device) const {
    return stream_track(device, t_.streams.size());
  }
  std::uint64_t memory_track(std::uint32_t device) const { return slot_track(device) + 1; }

  void flush() {
    out_.write(buffer_.bytes().data(), static_cast<std::streamsize>(buffer_.bytes().size()));
    buffer_.clear();
  }

  void packet(ProtoMessage& p) {
    p.unsigned_integer(kSequence, kTheSequence);
    if (first_) p.unsigned_integer(kSequenceFlags, kStateCleared);
    first_ = false;
    buffer_.message(kPacket, p);
    if (buffer_.bytes().size() >= kFlushAt) flush();
  }

  void descriptor(const ProtoMessage& track) {
    ProtoMessage p;
    p.message(kTrackDescriptor, track);
    packet(p);
  }

  void tracks(std::uint32_t d) {
    ProtoMessage process;
    process.integer(kPid, std::int64_t{d} + 1);  // 0 is the idle process
    process.text(kProcessName, t_.devices[d].name);
    ProtoMessage device;
    device.unsigned_integer(kUuid, device_track(d));
    device.message(kProcess, process);
    descriptor(device);
    child(d, slot_track(d), "slots");
    for (std::size_t s = 0; s < t_.streams.size(); ++s)
      child(d, stream_track(d, s), "stream " + std::to_string(s) + " " + t_.streams[s]);
    ProtoMessage counter;
    counter.unsigned_integer(kCounterUnit, kBytesUnit);
    child(d, memory_track(d), "memory", &counter);
  }

  void child(std::uint32_t device, std::uint64_t uuid, std::string_view name,
             const ProtoMessage* counter = nullptr) {
    ProtoMessage track;
    track.unsigned_integer(kUuid, uuid);
    track.text(kTrackName, name);
    track.unsigned_integer(kParent, device_track(device));
    if (counter) track.message(kCounter, *counter);
    descriptor(track);
  }

  static ProtoMessage event_of(EventType type, std::uint64_t track) {
    ProtoMessage e;
    e.unsigned_integer(kType, static_cast<std::uint64_t>(type));
    e.unsigned_integer(kTrack, track);
    return e;
  }

  void at(Picoseconds time, const ProtoMessage& event) {
    ProtoMessage p;
    p.unsigned_integer(kTimestamp, static_cast<std::uint64_t>(time / kNanosecond));
    p.message(kTrackEvent, event);
    packet(p);
  }

  static void annotate(ProtoMessage& event, std::string_view name, std::string_view value) {
    ProtoMessage a;
    a.text(kAnnotationName, name);
    a.text(kAnnotationText, value);
    event.message(kAnnotation, a);
  }
  static void annotate(ProtoMessage& event, std::string_view name, std::int64_t value) {
    ProtoMessage a;
    a.text(kAnnotationName, name);
    a.integer(kAnnotationInt, value);
    event.message(kAnnotation, a);
  }

  void slice(std::uint32_t index) {
    const TimelineEvent& e = t_.events[index];
    const std::uint64_t track = stream_track(e.device, e.stream);
    ProtoMessage begin = event_of(EventType::begin, track);
    begin.text(kCategories, is_communication(e.kind) ? "communication" : "kernel");
    begin.text(kName, t_.names[e.name]);
    annotate(begin, "kind", name_of(e.kind));
    annotate(begin, "phase", name_of(e.phase));
    annotate(begin, "cost", name_of(e.provenance));
    annotate(begin, "start_ps", e.start);
    annotate(begin, "duration_ps", e.end - e.start);
    if (e.layer >= 0) annotate(begin, "layer", e.layer);
    if (t_.slots[e.slot].micro_batch >= 0)
      annotate(begin, "micro-batch", t_.slots[e.slot].micro_batch);
    if (e.bytes > 0) annotate(begin, "bytes", e.bytes);
    if (e.group != kNoGroup) {
      annotate(begin, "group", t_.groups[e.group].name);
      annotate(begin, "group size", t_.groups[e.group].ranks);
    }
    if (e.sender && e.peer != kNoEvent) begin.fixed64(kFlow, std::uint64_t{index} + 1);
    at(e.start, begin);
    at(e.end, event_of(EventType::end, track));
  }

  void slot(const SlotRange& r) {
    ProtoMessage begin = event_of(EventType::begin, slot_track(r.device));
    begin.text(kCategories, "slot");
    begin.text(kName, slot_name(t_, r.slot));
    at(r.start, begin);
    at(r.end, event_of(EventType::end, slot_track(r.device)));
  }

  void memory(const MemorySample& m) {
    ProtoMessage sample = event_of(EventType::counter, memory_track(m.device));
    sample.integer(kCounterValue, m.bytes);
    at(m.time, sample);
  }

  // After all slices, so that of equal times the send comes first.
  void arrival(std::uint32_t index) {
    const TimelineEvent& from = t_.events[index];
    if (!from.sender || from.peer == kNoEvent) return;
    const TimelineEvent& to = t_.events[from.peer];
    ProtoMessage both = event_of(EventType::instant, stream_track(to.device, to.stream));
    both.text(kCategories, "communication");
    both.text(kName, "both ends are there");
    both.fixed64(kTerminatingFlow, std::uint64_t{index} + 1);
    at(std::max(from.start, to.start), both);
  }

  std::ostream& out_;
  const Timeline& t_;
  ProtoMessage buffer_;  // fields of Trace
  bool first_ = true;
};

}  // namespace

void write_perfetto_trace(std::ostream& out, const Timeline& timeline) {
  Writer(out, timeline).write();
}

}  // namespace steploom
