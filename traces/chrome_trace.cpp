#include "traces/chrome_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>
#include <ostream>
#include <vector>

#include "traces/json_text.h"
#include "traces/slot_ranges.h"

namespace steploom {
namespace {

// How PyTorch and NCCL call a collective. In the order of OpKind, from all_reduce on.
struct CollectiveNames {
  OpKind kind;
  std::string_view torch;   // "Collective name"
  std::string_view kernel;  // {}: the type of the sum
};
constexpr std::array<CollectiveNames, 5> kCollectives{{
    {OpKind::all_reduce, "allreduce", "ncclDevKernel_AllReduce_Sum_{}_RING_LL"},
    {OpKind::all_gather, "_allgather_base", "ncclDevKernel_AllGather_RING_LL"},
    {OpKind::reduce_scatter, "_reduce_scatter_base", "ncclDevKernel_ReduceScatter_Sum_{}_RING_LL"},
    {OpKind::all_to_all, "all_to_all", "ncclDevKernel_SendRecv"},
    {OpKind::send_recv, "", "ncclDevKernel_SendRecv"},  // "send" or "recv"
}};
static_assert(kCollectives.size() == kOpKinds - static_cast<int>(OpKind::all_reduce));

struct TypeNames {
  std::string_view torch, nccl;
};
// In the order of Precision; fp8 is of products, what is sent stays bf16.
constexpr std::array<TypeNames, kPrecisions> kTypes{{{"BFloat16", "bf16"},
                                                     {"Half", "f16"},
                                                     {"Float", "f32"},
                                                     {"Float", "f32"},
                                                     {"BFloat16", "bf16"},
                                                     {"BFloat16", "bf16"}}};

// As the PyTorch profiler, which leaves out the rest.
constexpr std::size_t kMostRanksListed = 30;

const CollectiveNames& names_of(OpKind kind) {
  return kCollectives.at(static_cast<std::size_t>(kind) -
                         static_cast<std::size_t>(OpKind::all_reduce));
}
const TypeNames& names_of(Precision p) {
  return kTypes.at(static_cast<std::size_t>(p));
}

class Writer {
 public:
  Writer(std::ostream& out, const Timeline& t, const TraceOptions& options)
      : out_(out), t_(t), options_(options) {
    for (const std::string& name : t.names) names_.push_back(json_string(name));
    for (std::uint32_t g = 0; g < t.groups.size(); ++g) groups_.push_back(group_args(g));
  }

  void write() {
    head();
    for (std::uint32_t d = 0; d < t_.devices.size(); ++d)
      if (wanted(d)) metadata(d);
    for (std::uint32_t e = 0; e < t_.events.size(); ++e)
      if (wanted(t_.events[e].device)) kernel(e);
    slots();
    for (const MemorySample& m : t_.memory)
      if (wanted(m.device)) memory(m);
    for (std::uint32_t e = 0; e < t_.events.size(); ++e) flow(e);
    put("\n],\n\"traceName\": {}\n}}\n", json_string(options_.name));
    flush();
  }

 private:
  static constexpr std::size_t kFlushAt = std::size_t{1} << 16;

  bool wanted(std::uint32_t device) const { return !options_.device || *options_.device == device; }

  template <typename... Args>
  void put(fmt::format_string<Args...> form, Args&&... args) {
    fmt::format_to(std::back_inserter(buffer_), form, std::forward<Args>(args)...);
  }

  // The next item of traceEvents; `form` begins after its brace.
  template <typename... Args>
  void event(fmt::format_string<Args...> form, Args&&... args) {
    buffer_ += first_ ? "\n{" : ",\n{";
    first_ = false;
    put(form, std::forward<Args>(args)...);
    if (buffer_.size() >= kFlushAt) flush();
  }

  void flush() {
    out_.write(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
    buffer_.clear();
  }

  // Microseconds with three decimals or, below a nanosecond, six.
  void put_micros(Picoseconds time) {
    const Picoseconds whole = time / 1'000'000, rest = time % 1'000'000;
    if (rest % 1000 == 0)
      put("{}.{:03}", whole, rest / 1000);
    else
      put("{}.{:06}", whole, rest);
  }
  void put_span(Picoseconds start, Picoseconds end) {
    buffer_ += ", \"ts\": ";
    put_micros(start);
    buffer_ += ", \"dur\": ";
    put_micros(end - start);
  }

  void head() {
    const std::int64_t world = std::accumulate(
        t_.devices.begin(), t_.devices.end(), std::int64_t{0},
        [](std::int64_t sum, const TimelineDevice& d) { return sum + d.multiplicity; });
    buffer_ += "{\n\"schemaVersion\": 1,\n\"deviceProperties\": [";
    bool first = true;
    for (std::uint32_t d = 0; d < t_.devices.size(); ++d) {
      if (!wanted(d)) continue;
      put("{}\n  {{\"id\": {}, \"name\": {}, \"numSms\": {}}}", first ? "" : ",", d,
          json_string(t_.devices[d].name), t_.devices[d].sms);
      first = false;
    }
    put("\n],\n\"distributedInfo\": {{\"backend\": \"nccl\", \"rank\": {}, \"world_size\": {}, "
        "\"pg_count\": {}, \"pg_config\": [",
        options_.rank, world, t_.groups.size());
    for (std::size_t g = 0; g < t_.groups.size(); ++g)
      put("{}\n  {{\"pg_name\": \"{}\", \"pg_desc\": {}, \"backend_config\": \"cuda:nccl\", "
          "\"pg_size\": {}, \"ranks\": {}}}",
          g > 0 ? "," : "", g, json_string(t_.groups[g].name), t_.groups[g].ranks,
          rank_list(t_.groups[g], t_.groups[g].members.size()));
    buffer_ +=
        "\n]},\n\"displayTimeUnit\": \"ns\",\n\"baseTimeNanoseconds\": 0,\n\"traceEvents\": [";
  }

  // "[0, 1]", at most so many. Devices that stand for several ranks are not ranks: "[]".
  std::string rank_list(const TimelineGroup& g, std::size_t most) const {
    if (std::any_of(t_.devices.begin(), t_.devices.end(),
                    [](const TimelineDevice& d) { return d.multiplicity > 1; }))
      return "[]";
    std::string text = "[";
    for (std::size_t i = 0; i < g.members.size(); ++i) {
      if (i == most) {
        text += ", ...";
        break;
      }
      if (i > 0) text += ", ";
      text += std::to_string(g.members[i]);
    }
    return text + "]";
  }

  std::string group_args(std::uint32_t group) const {
    const TimelineGroup& g = t_.groups[group];
    return fmt::format(
        "\"Group size\": {}, \"Process Group Name\": \"{}\", \"Process Group Description\": {}, "
        "\"Process Group Ranks\": \"{}\"",
        g.ranks, group, json_string(g.name), rank_list(g, kMostRanksListed));
  }

  void name(std::uint32_t device, std::int64_t thread, std::string_view what, std::string_view key,
            const std::string& json) {
    event(
        "\"ph\": \"M\", \"name\": \"{}\", \"pid\": {}, \"tid\": {}, \"ts\": 0, \"args\": "
        "{{\"{}\": {}}}}}",
        what, device, thread, key, json);
  }

  std::size_t slot_thread() const { return t_.streams.size(); }

  void metadata(std::uint32_t d) {
    const TimelineDevice& device = t_.devices[d];
    name(d, 0, "process_name", "name", json_string(device.name));
    name(d, 0, "process_sort_index", "sort_index", std::to_string(d));
    if (device.multiplicity > 1)
      name(d, 0, "process_labels", "labels",
           json_string("one of " + std::to_string(device.multiplicity) + " ranks alike"));
    for (std::size_t s = 0; s < t_.streams.size(); ++s) {
      const auto thread = static_cast<std::int64_t>(s);
      name(d, thread, "thread_name", "name",
           json_string("stream " + std::to_string(s) + " " + t_.streams[s]));
      name(d, thread, "thread_sort_index", "sort_index", std::to_string(s + 1));
    }
    const auto thread = static_cast<std::int64_t>(slot_thread());
    name(d, thread, "thread_name", "name", "\"slots\"");
    name(d, thread, "thread_sort_index", "sort_index", "0");
  }

  void kernel(std::uint32_t index) {
    const TimelineEvent& e = t_.events[index];
    const bool communicates = is_communication(e.kind);
    event("\"ph\": \"X\", \"cat\": \"kernel\", \"name\": {}, \"pid\": {}, \"tid\": {}",
          communicates ? kernel_name(e) : names_[e.name], e.device, e.stream);
    put_span(e.start, e.end);
    put(", \"args\": {{\"device\": {}, \"stream\": {}, \"correlation\": {}, \"op\": {}, "
        "\"kind\": \"{}\", \"phase\": \"{}\", \"cost\": \"{}\"",
        e.device, e.stream, index + 1, names_[e.name], name_of(e.kind), name_of(e.phase),
        name_of(e.provenance));
    if (e.layer >= 0) put(", \"layer\": {}", e.layer);
    if (const std::int32_t batch = t_.slots[e.slot].micro_batch; batch >= 0)
      put(", \"micro-batch\": {}", batch);
    if (communicates) collective(e);
    buffer_ += "}}";
  }

  static std::string kernel_name(const TimelineEvent& e) {
    return '"' + fmt::format(fmt::runtime(names_of(e.kind).kernel), names_of(e.precision).nccl) +
           '"';
  }

  // Work::bytes is the larger of one rank's buffers; the other of a gather or scatter is one share.
  void collective(const TimelineEvent& e) {
    const std::int64_t elements = e.bytes / bytes_of(e.precision);
    const std::int64_t ranks =
        e.group == kNoGroup ? 1 : std::max<std::int64_t>(1, t_.groups[e.group].ranks);
    const std::int64_t in = e.kind == OpKind::all_gather ? elements / ranks : elements;
    const std::int64_t out = e.kind == OpKind::reduce_scatter ? elements / ranks : elements;
    std::string_view torch = names_of(e.kind).torch;
    if (torch.empty()) torch = e.sender ? "send" : "recv";
    put(", \"Collective name\": \"{}\", \"In msg nelems\": {}, \"Out msg nelems\": {}, "
        "\"dtype\": \"{}\"",
        torch, in, out, names_of(e.precision).torch);
    if (e.group != kNoGroup) put(", {}", groups_[e.group]);
  }

  void slots() {
    for (const SlotRange& r : slot_ranges(t_)) {
      if (!wanted(r.device)) continue;
      // Without "stream": readers take what has one for a kernel.
      event(
          "\"ph\": \"X\", \"cat\": \"gpu_user_annotation\", \"name\": {}, \"pid\": {}, "
          "\"tid\": {}",
          json_string(slot_name(t_, r.slot)), r.device, slot_thread());
      put_span(r.start, r.end);
      buffer_ += '}';
    }
  }

  void memory(const MemorySample& m) {
    event("\"ph\": \"C\", \"name\": \"memory\", \"pid\": {}, \"tid\": 0, \"ts\": ", m.device);
    put_micros(m.time);
    put(", \"args\": {{\"bytes\": {}}}}}", m.bytes);
  }

  // From the start of a send to when its receive has started too.
  void flow(std::uint32_t index) {
    const TimelineEvent& from = t_.events[index];
    if (!from.sender || from.peer == kNoEvent) return;
    const TimelineEvent& to = t_.events[from.peer];
    if (!wanted(from.device) || !wanted(to.device)) return;
    flow_end('s', "", index, from, from.start);
    flow_end('f', "\"bp\": \"e\", ", index, to, std::max(from.start, to.start));
  }
  void flow_end(char phase, std::string_view binding, std::uint32_t id, const TimelineEvent& e,
                Picoseconds at) {
    event(
        "\"ph\": \"{}\", {}\"cat\": \"p2p\", \"name\": \"p2p\", \"id\": {}, \"pid\": {}, "
        "\"tid\": {}, \"ts\": ",
        phase, binding, id + 1, e.device, e.stream);
    put_micros(at);
    buffer_ += '}';
  }

  std::ostream& out_;
  const Timeline& t_;
  const TraceOptions& options_;
  std::string buffer_;
  std::vector<std::string> names_;   // as JSON strings
  std::vector<std::string> groups_;  // arguments of a collective of this group
  bool first_ = true;
};

}  // namespace

void write_chrome_trace(std::ostream& out, const Timeline& timeline, const TraceOptions& options) {
  Writer(out, timeline, options).write();
}

}  // namespace steploom
