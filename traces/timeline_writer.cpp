#include <fmt/format.h>

#include <iterator>
#include <map>
#include <ostream>
#include <tuple>
#include <vector>

#include "traces/json_text.h"
#include "traces/text_file.h"
#include "traces/timeline_file.h"

namespace steploom {
namespace {

// What an event has in common with others: all but its times, its slot and whom it meets.
auto as_operator(const TimelineEvent& e) {
  return std::tuple(e.name, e.stream, e.layer, e.kind, e.phase, e.precision, e.group_kind,
                    e.provenance, e.sender, e.recompute, e.host_waits, e.bytes, e.flops);
}
using Operator = decltype(as_operator(TimelineEvent{}));

std::int64_t or_minus_one(std::uint32_t index) {
  return index == 0xffffffff ? -1 : std::int64_t{index};
}
static_assert(kNoEvent == 0xffffffff && kNoGroup == 0xffffffff);

class Writer {
 public:
  Writer(std::ostream& out, const Timeline& t) : out_(out), t_(t) {
    for (const TimelineEvent& e : t.events) {
      const auto [at, is_new] =
          known_.try_emplace(as_operator(e), static_cast<std::uint32_t>(operators_.size()));
      if (is_new) operators_.push_back(&e);
      operator_of_.push_back(at->second);
    }
  }

  void write() {
    put("{{\n\"steploom_timeline\": {}", kTimelineVersion);
    origin();
    put(",\n\"makespan_ps\": {}", t_.makespan);
    list("streams", t_.streams, [&](const std::string& s) { put("{}", json_string(s)); });
    list("devices", t_.devices, [&](const TimelineDevice& d) {
      put("{{\"name\": {}, \"stage\": {}, \"multiplicity\": {}, \"sms\": {}, ", json_string(d.name),
          d.stage, d.multiplicity, d.sms);
      if (d.mhz > 0) put("\"mhz\": {}, ", d.mhz);
      put("\"static_bytes\": {}, \"peak_bytes\": {}}}", d.static_memory, d.peak_memory);
    });
    list("groups", t_.groups, [&](const TimelineGroup& g) {
      put("{{\"name\": {}, \"ranks\": {}, \"members\": [{}]}}", json_string(g.name), g.ranks,
          fmt::join(g.members, ", "));
    });
    list("operators", operators_, [&](const TimelineEvent* e) { one_operator(*e); });
    list("slots", t_.slots, [&](const TimelineSlot& s) {
      put("{{\"device\": {}, \"block\": {}, \"pass\": \"{}\", \"micro_batch\": {}", s.device,
          json_string(t_.names[s.name]), name_of(s.kind), s.micro_batch);
      if (s.kind == SlotKind::pair) put(", \"beside\": {}", s.beside);
      put("}}");
    });
    std::uint32_t index = 0;
    list("events", t_.events, [&](const TimelineEvent& e) { event(index++, e); });
    list("memory", t_.memory,
         [&](const MemorySample& m) { put("[{}, {}, {}]", m.device, m.time, m.bytes); });
    put("\n}}\n");
    flush();
  }

 private:
  template <typename... Args>
  void put(fmt::format_string<Args...> form, Args&&... args) {
    fmt::format_to(std::back_inserter(buffer_), form, std::forward<Args>(args)...);
  }
  void flush() {
    out_.write(buffer_.data(), static_cast<std::streamsize>(buffer_.size()));
    buffer_.clear();
  }

  template <class Items, class One>
  void list(std::string_view key, const Items& items, One one) {
    constexpr std::size_t kFlushAt = std::size_t{1} << 16;
    put(",\n\"{}\": [", key);
    const char* between = "\n";
    for (const auto& item : items) {
      buffer_ += std::exchange(between, ",\n");
      one(item);
      if (buffer_.size() > kFlushAt) flush();
    }
    buffer_ += "]";
  }

  void origin() {
    const TimelineOrigin& o = t_.origin;
    put(",\n\"source\": \"{}\"", name_of(o.source));
    const std::pair<std::string_view, const std::string&> texts[] = {
        {"model", o.model},     {"cluster", o.cluster},
        {"layout", o.layout},   {"runtime", o.runtime},
        {"profile", o.profile}, {"profile_digest", o.profile_digest},
        {"engine", o.engine},   {"plan_digest", o.plan_digest},
        {"date", o.date}};
    for (const auto& [key, text] : texts)
      if (!text.empty()) put(",\n\"{}\": {}", key, json_string(text));
    if (!o.versions.empty()) {
      put(",\n\"versions\": {{");
      const char* between = "";
      for (const auto& [what, version] : o.versions)
        put("{}{}: {}", std::exchange(between, ", "), json_string(what), json_string(version));
      put("}}");
    }
    put(",\n\"steps\": {},\n\"step_ps\": {}", o.steps, o.step);
    if (o.repeats)
      put(",\n\"repeats\": {{\"blocks\": {}, \"lower_quartile_ps\": {}, \"upper_quartile_ps\": {}, "
          "\"repeatability\": {}}}",
          o.repeats->blocks, o.repeats->lower_quartile, o.repeats->upper_quartile,
          json_number(o.repeats->repeatability));
  }

  void one_operator(const TimelineEvent& e) {
    put("{{\"name\": {}, \"kind\": \"{}\", \"class\": \"{}\", \"phase\": \"{}\", "
        "\"precision\": \"{}\", \"stream\": {}, \"layer\": {}, \"cost\": \"{}\", \"bytes\": {}, "
        "\"flops\": {}",
        json_string(t_.names[e.name]), name_of(e.kind), name_of(class_of(e.kind)), name_of(e.phase),
        name_of(e.precision), e.stream, e.layer, name_of(e.provenance), e.bytes,
        json_number(e.flops));
    if (e.group_kind != CommGroup::none) put(", \"group_kind\": \"{}\"", name_of(e.group_kind));
    if (e.sender) put(", \"sender\": true");
    if (e.recompute) put(", \"recompute\": true");
    if (e.host_waits) put(", \"host_waits\": true");
    put("}}");
  }

  void event(std::uint32_t index, const TimelineEvent& e) {
    put("[{}, {}, {}, {}, {}, {}, {}, {}", operator_of_[index], e.slot, e.start, e.end, e.issued,
        e.joined, or_minus_one(e.group), or_minus_one(e.peer));
    if (!t_.first_wait.empty()) {
      put(", [");
      for (std::uint32_t w = t_.first_wait[index]; w < t_.first_wait[index + 1]; ++w)
        put("{}{}", w > t_.first_wait[index] ? ", " : "", index - t_.waits[w]);
      put("]");
    }
    put("]");
  }

  std::ostream& out_;
  const Timeline& t_;
  std::map<Operator, std::uint32_t> known_;
  std::vector<const TimelineEvent*> operators_;  // the first event of each
  std::vector<std::uint32_t> operator_of_;       // by event
  std::string buffer_;
};

}  // namespace

void write_timeline(std::ostream& out, const Timeline& timeline) {
  Writer(out, timeline).write();
}

void save_timeline(const Timeline& timeline, const std::filesystem::path& file) {
  write_text_file(file, [&](std::ostream& out) { write_timeline(out, timeline); });
}

}  // namespace steploom
