#include "traces/chakra.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>
#include <ostream>
#include <string_view>
#include <tuple>

#include "models/error.h"
#include "traces/protobuf.h"

namespace steploom {
namespace {

// GlobalMetadata.
constexpr int kVersion = 1;
constexpr int kMetadataAttribute = 2;
constexpr std::string_view kSchema = "0.0.4";
// Node.
constexpr int kId = 1;
constexpr int kName = 2;
constexpr int kType = 3;
constexpr int kControlDeps = 4;
constexpr int kDataDeps = 5;
constexpr int kStart = 6;
constexpr int kDuration = 7;
constexpr int kAttribute = 10;
enum class NodeType : std::uint64_t { compute = 4, send = 5, receive = 6, collective = 7 };
// AttributeProto.
constexpr int kAttributeName = 1;
constexpr int kInt32 = 7;
constexpr int kInt64 = 9;
constexpr int kUint64 = 13;
constexpr int kBool = 27;
constexpr int kString = 29;

// CollectiveCommType, in the order of OpKind from all_reduce on.
constexpr std::array<std::int64_t, 4> kCollectiveTypes{0, 2, 7, 6};
static_assert(static_cast<int>(OpKind::reduce_scatter) == static_cast<int>(OpKind::all_reduce) + 2);
static_assert(static_cast<int>(OpKind::all_to_all) == static_cast<int>(OpKind::all_reduce) + 3);

constexpr Picoseconds kMicrosecond = 1'000'000;

// The nearest.
std::uint64_t micros(Picoseconds time) {
  return static_cast<std::uint64_t>((time + kMicrosecond / 2) / kMicrosecond);
}

bool is_collective(OpKind kind) {
  return is_communication(kind) && kind != OpKind::send_recv;
}

// A message of attributes of one node, or of the file.
class Attributes {
 public:
  Attributes(ProtoMessage& owner, int field) : owner_(owner), field_(field) {}

  void flag(std::string_view name, bool value) const {
    add(name, [&](ProtoMessage& a) { a.unsigned_integer(kBool, value ? 1 : 0); });
  }
  void int32(std::string_view name, std::int64_t value) const {
    add(name, [&](ProtoMessage& a) { a.integer(kInt32, value); });
  }
  void int64(std::string_view name, std::int64_t value) const {
    add(name, [&](ProtoMessage& a) { a.integer(kInt64, value); });
  }
  void uint64(std::string_view name, std::int64_t value) const {
    add(name,
        [&](ProtoMessage& a) { a.unsigned_integer(kUint64, static_cast<std::uint64_t>(value)); });
  }
  void text(std::string_view name, std::string_view value) const {
    add(name, [&](ProtoMessage& a) { a.text(kString, value); });
  }

 private:
  template <class Value>
  void add(std::string_view name, const Value& value) const {
    ProtoMessage a;
    a.text(kAttributeName, name);
    value(a);
    owner_.message(field_, a);
  }
  ProtoMessage& owner_;
  int field_;
};

// Ids of an event's node and, of a ring's step, of its receive. Not 0, which protobuf leaves out.
std::uint64_t node_id(std::uint32_t event, std::uint32_t first) {
  return 2 * std::uint64_t{event - first} + 1;
}

std::size_t member_of(const TimelineGroup& group, std::uint32_t rank) {
  return static_cast<std::size_t>(std::find(group.members.begin(), group.members.end(), rank) -
                                  group.members.begin());
}

// Work::bytes is the larger of one rank's buffers.
std::int64_t given_bytes(const TimelineEvent& e, const TimelineGroup& group) {
  return e.kind == OpKind::all_gather ? e.bytes / static_cast<std::int64_t>(group.members.size())
                                      : e.bytes;
}

}  // namespace

struct ChakraTrace::Node {
  ProtoMessage head;  // all but type and what depends on it
  std::uint64_t id = 0;
};

bool ChakraTrace::is_ring_step(const TimelineEvent& e) const {
  return e.kind == OpKind::send_recv && e.peer == kNoEvent && e.group != kNoGroup &&
         t_.groups[e.group].members.size() > 1;
}

ChakraTrace::ChakraTrace(const Timeline& timeline) : t_(timeline) {
  assert(std::all_of(t_.devices.begin(), t_.devices.end(),
                     [](const TimelineDevice& d) { return d.multiplicity == 1; }));
  const std::size_t n = t_.events.size();
  first_event_.assign(t_.devices.size() + 1, static_cast<std::uint32_t>(n));
  for (std::size_t e = n; e-- > 0;)
    first_event_[t_.events[e].device] = static_cast<std::uint32_t>(e);
  for (std::size_t d = t_.devices.size(); d-- > 0;)
    first_event_[d] = std::min(first_event_[d], first_event_[d + 1]);

  // The k-th operators of a group's members meet.
  rendezvous_.assign(n, 0);
  std::vector<std::uint32_t> meetings(t_.groups.size(), 0);
  for (std::size_t d = 0; d < t_.devices.size(); ++d) {
    std::vector<std::uint32_t> count(t_.groups.size(), 0);
    for (std::uint32_t e = first_event_[d]; e < first_event_[d + 1]; ++e)
      if (const std::uint32_t g = t_.events[e].group; g != kNoGroup) {
        rendezvous_[e] = count[g]++;
        meetings[g] = std::max(meetings[g], count[g]);
      }
  }
  std::uint64_t total = 0;
  std::vector<std::uint32_t> first(t_.groups.size(), 0);
  for (std::size_t g = 0; g < meetings.size(); ++g) {
    first[g] = static_cast<std::uint32_t>(total);
    total += meetings[g];
    if (total > std::numeric_limits<std::int32_t>::max())
      throw Error({"chakra", "comm_tag", "a step of fewer than 2^31 collectives and messages",
                   "more", "choose fewer micro-batches or ranks"});
  }
  for (std::size_t e = 0; e < n; ++e)
    if (t_.events[e].group != kNoGroup) rendezvous_[e] += first[t_.events[e].group];

  in_stream_.assign(n, kNoEvent);
  waited_.assign(n, kNoEvent);
  sent_before_.assign(n, kNoEvent);
  for (std::size_t d = 0; d < t_.devices.size(); ++d) {
    std::vector<std::uint32_t> last(t_.streams.size(), kNoEvent), waited_by(last);
    std::uint32_t waited = kNoEvent;
    std::vector<std::uint32_t> sending;
    for (std::uint32_t e = first_event_[d]; e < first_event_[d + 1]; ++e) {
      const TimelineEvent& event = t_.events[e];
      in_stream_[e] = last[event.stream];
      last[event.stream] = e;
      // What follows in the stream waits through its stream.
      if (waited_by[event.stream] != waited) waited_[e] = waited_by[event.stream] = waited;
      if (event.host_waits) waited = e;
      if (is_collective(event.kind) || event.sender || is_ring_step(event)) sending.push_back(e);
    }
    std::sort(sending.begin(), sending.end(), [this](std::uint32_t a, std::uint32_t b) {
      const auto key = [this](std::uint32_t e) {
        const TimelineEvent& event = t_.events[e];
        return std::tuple(event.sender ? event.start : event.joined, event.end, rendezvous_[e]);
      };
      return key(a) < key(b);
    });
    for (std::size_t i = 1; i < sending.size(); ++i) sent_before_[sending[i]] = sending[i - 1];
  }
}

void ChakraTrace::add_order(std::uint32_t event, std::vector<std::uint64_t>& deps) const {
  for (const std::uint32_t before : {in_stream_[event], waited_[event], sent_before_[event]}) {
    if (before == kNoEvent) continue;
    const std::uint32_t first = first_event_[t_.events[before].device];
    deps.push_back(node_id(before, first));
    if (is_ring_step(t_.events[before])) deps.push_back(node_id(before, first) + 1);
  }
}

ChakraTrace::Node ChakraTrace::node_of(std::uint32_t event) const {
  const TimelineEvent& e = t_.events[event];
  const std::uint32_t first = first_event_[e.device];
  std::vector<std::uint64_t> order, all;
  add_order(event, order);
  all = order;
  if (!t_.first_wait.empty())
    for (std::uint32_t w = t_.first_wait[event]; w < t_.first_wait[event + 1]; ++w) {
      all.push_back(node_id(t_.waits[w], first));
      if (is_ring_step(t_.events[t_.waits[w]])) all.push_back(node_id(t_.waits[w], first) + 1);
    }
  for (std::vector<std::uint64_t>* deps : {&order, &all}) {
    std::sort(deps->begin(), deps->end());
    deps->erase(std::unique(deps->begin(), deps->end()), deps->end());
  }
  Node node;
  node.id = node_id(event, first);
  node.head.text(kName, t_.names[e.name]);
  node.head.packed(kControlDeps, order);
  node.head.packed(kDataDeps, all);
  node.head.unsigned_integer(kStart, micros(e.start));
  node.head.unsigned_integer(kDuration, micros(e.end) - micros(e.start));
  const Attributes attributes(node.head, kAttribute);
  attributes.flag("is_cpu_op", false);
  attributes.int64("steploom.start_ps", e.start);
  attributes.int64("steploom.duration_ps", e.end - e.start);
  return node;
}

void ChakraTrace::write_rank(std::ostream& out, std::uint32_t rank) const {
  ProtoMessage metadata;
  metadata.text(kVersion, kSchema);
  const Attributes of_file(metadata, kMetadataAttribute);
  of_file.int64("steploom.rank", rank);
  of_file.int64("steploom.step_ps", t_.makespan);
  of_file.text("steploom.model", t_.origin.model);
  of_file.text("steploom.layout", t_.origin.layout);
  write_delimited(out, metadata);

  const auto put = [&out](const Node& node, std::uint64_t id, NodeType type, const auto& more) {
    ProtoMessage m = node.head;
    m.unsigned_integer(kId, id);
    m.unsigned_integer(kType, static_cast<std::uint64_t>(type));
    more(Attributes(m, kAttribute));
    write_delimited(out, m);
  };
  for (std::uint32_t index = first_event_[rank]; index < first_event_[rank + 1]; ++index) {
    const TimelineEvent& e = t_.events[index];
    const Node node = node_of(index);
    const auto message = [&](NodeType type, std::uint64_t id, std::uint32_t from,
                             std::uint32_t to) {
      put(node, id, type, [&](const Attributes& a) {
        a.int64("comm_size", e.bytes);
        a.int32("comm_src", from);
        a.int32("comm_dst", to);
        a.int32("comm_tag", rendezvous_[index]);
      });
    };
    if (!is_communication(e.kind) || e.group == kNoGroup ||
        (e.kind == OpKind::send_recv && e.peer == kNoEvent && !is_ring_step(e))) {
      put(node, node.id, NodeType::compute, [&e](const Attributes& a) {
        // Roofline replays divide by both.
        a.int64("num_ops", std::max<std::int64_t>(1, static_cast<std::int64_t>(e.flops)));
        a.uint64("tensor_size", std::max<std::int64_t>(1, e.bytes));
      });
    } else if (is_collective(e.kind)) {
      const TimelineGroup& group = t_.groups[e.group];
      put(node, node.id, NodeType::collective, [&](const Attributes& a) {
        a.int64("comm_type", kCollectiveTypes.at(static_cast<std::size_t>(e.kind) -
                                                 static_cast<std::size_t>(OpKind::all_reduce)));
        a.int64("comm_size", given_bytes(e, group));
        a.int32("comm_priority", 0);
        a.text("pg_name", std::to_string(e.group + 1));
        a.text("pg_desc", group.name);
      });
    } else if (is_ring_step(e)) {
      const std::vector<std::uint32_t>& ring = t_.groups[e.group].members;
      const std::size_t at = member_of(t_.groups[e.group], rank);
      message(NodeType::send, node.id, rank, ring[(at + 1) % ring.size()]);
      message(NodeType::receive, node.id + 1, ring[(at + ring.size() - 1) % ring.size()], rank);
    } else {
      const std::uint32_t other = t_.events[e.peer].device;
      if (e.sender)
        message(NodeType::send, node.id, rank, other);
      else
        message(NodeType::receive, node.id, other, rank);
    }
  }
}

std::string ChakraTrace::groups() const {
  std::string text = "{";
  for (std::size_t g = 0; g < t_.groups.size(); ++g)
    text += fmt::format("{}\n  \"{}\": [{}]", g > 0 ? "," : "", g + 1,
                        fmt::join(t_.groups[g].members, ", "));
  return text + "\n}\n";
}

}  // namespace steploom
