#include <fmt/format.h>

#include <array>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/error.h"
#include "models/nearest.h"
#include "traces/timeline_file.h"

namespace steploom {
namespace {

using Keys = std::vector<std::string_view>;

constexpr std::int64_t kMostTime = std::int64_t{1} << 61;  // as validate() of a Program
constexpr std::int64_t kMostBytes = std::int64_t{1} << 60;
constexpr int kMostLayers = 1 << 20;
constexpr int kMostRanks = 1 << 24;

std::string text_or_empty(const Json& json, std::string_view key) {
  const auto found = json.find(key);
  return found ? found->text() : "";
}

bool flag(const Json& json, std::string_view key) {
  const auto found = json.find(key);
  return found && found->boolean();
}

// One of an enum's first `count` names.
template <class Enum>
Enum named(const Json& json, int count) {
  const std::string text = json.text();
  std::vector<std::string_view> known;
  for (int i = 0; i < count; ++i) {
    known.push_back(name_of(static_cast<Enum>(i)));
    if (text == known.back()) return static_cast<Enum>(i);
  }
  json.refuse("a known name", nearest_hint(text, known));
}

template <class Enum>
constexpr int count_to(Enum last) {
  return static_cast<int>(last) + 1;
}

// An index into a table of `size` entries; `none` where -1 is allowed and found.
std::uint32_t index(const Json& json, std::size_t size) {
  return static_cast<std::uint32_t>(json.integer(0, static_cast<std::int64_t>(size) - 1));
}
std::uint32_t index_or(const Json& json, std::size_t size, std::uint32_t none) {
  const std::int64_t value = json.integer(-1, static_cast<std::int64_t>(size) - 1);
  return value < 0 ? none : static_cast<std::uint32_t>(value);
}

class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  Timeline read() {
    const Json version = json_.at("steploom_timeline");
    if (version.integer() != kTimelineVersion)
      version.refuse(fmt::format("version {}", kTimelineVersion),
                     "written by another steploom; write it anew with this one");
    json_.allow_only(Keys{"steploom_timeline",
                          "source",
                          "model",
                          "cluster",
                          "layout",
                          "runtime",
                          "profile",
                          "profile_digest",
                          "engine",
                          "plan_digest",
                          "date",
                          "versions",
                          "steps",
                          "step_ps",
                          "repeats",
                          "makespan_ps",
                          "streams",
                          "devices",
                          "groups",
                          "operators",
                          "slots",
                          "events",
                          "memory"});
    origin();
    t_.makespan = json_.at("makespan_ps").integer(0, kMostTime);
    each("streams", [&](const Json& s) { t_.streams.push_back(s.text()); });
    each("devices", [&](const Json& d) { device(d); });
    each("groups", [&](const Json& g) { group(g); });
    each("operators", [&](const Json& o) { one_operator(o); });
    each("slots", [&](const Json& s) { slot(s); });
    events();
    each("memory", [&](const Json& m) { memory(m); });
    return std::move(t_);
  }

 private:
  template <class Act>
  void each(std::string_view key, Act act) const {
    const Json list = json_.at(key);
    for (std::size_t i = 0, n = list.size(); i < n; ++i) act(list.at(i));
  }

  std::uint32_t name(const std::string& text) {
    const auto [at, is_new] = names_.try_emplace(text, static_cast<std::uint32_t>(names_.size()));
    if (is_new) t_.names.push_back(text);
    return at->second;
  }

  void origin() {
    TimelineOrigin& o = t_.origin;
    o.source = named<TimelineSource>(json_.at("source"), kTimelineSources);
    o.model = text_or_empty(json_, "model");
    o.cluster = text_or_empty(json_, "cluster");
    o.layout = text_or_empty(json_, "layout");
    o.runtime = text_or_empty(json_, "runtime");
    o.profile = text_or_empty(json_, "profile");
    o.profile_digest = text_or_empty(json_, "profile_digest");
    o.engine = text_or_empty(json_, "engine");
    o.plan_digest = text_or_empty(json_, "plan_digest");
    o.date = text_or_empty(json_, "date");
    if (const auto versions = json_.find("versions"))
      for (const std::string& what : versions->keys())
        o.versions.emplace_back(what, versions->at(what).text());
    o.steps = json_.at("steps").small_integer(1, 1 << 30);
    o.step = json_.at("step_ps").integer(0, kMostTime);
    if (const auto repeats = json_.find("repeats")) {
      repeats->allow_only(
          Keys{"blocks", "lower_quartile_ps", "upper_quartile_ps", "repeatability"});
      Repeats r;
      r.blocks = repeats->at("blocks").small_integer(1, 1 << 30);
      r.lower_quartile = repeats->at("lower_quartile_ps").integer(0, o.step);
      r.upper_quartile = repeats->at("upper_quartile_ps").integer(o.step, kMostTime);
      r.repeatability = repeats->at("repeatability").number(0, 10);
      o.repeats = r;
    }
  }

  void device(const Json& in) {
    in.allow_only(
        Keys{"name", "stage", "multiplicity", "sms", "mhz", "static_bytes", "peak_bytes"});
    TimelineDevice d;
    d.name = in.at("name").text();
    d.stage = in.at("stage").small_integer(0, kMostRanks);
    d.multiplicity = in.at("multiplicity").small_integer(1, kMostRanks);
    d.sms = static_cast<std::uint16_t>(in.at("sms").small_integer(0, 0xffff));
    if (const auto mhz = in.find("mhz"))
      d.mhz = static_cast<std::uint16_t>(mhz->small_integer(1, 0xffff));
    d.static_memory = in.at("static_bytes").integer(0, kMostBytes);
    d.peak_memory = in.at("peak_bytes").integer(0, kMostBytes);
    t_.devices.push_back(std::move(d));
  }

  void group(const Json& in) {
    in.allow_only(Keys{"name", "ranks", "members"});
    TimelineGroup g;
    g.name = in.at("name").text();
    g.ranks = static_cast<std::uint32_t>(in.at("ranks").small_integer(0, kMostRanks));
    const Json members = in.at("members");
    for (std::size_t i = 0; i < members.size(); ++i)
      g.members.push_back(index(members.at(i), t_.devices.size()));
    t_.groups.push_back(std::move(g));
  }

  void one_operator(const Json& in) {
    in.allow_only(Keys{"name", "kind", "class", "phase", "precision", "stream", "layer", "cost",
                       "bytes", "flops", "group_kind", "sender", "recompute", "host_waits"});
    TimelineEvent e;
    e.name = name(in.at("name").text());
    e.kind = named<OpKind>(in.at("kind"), kOpKinds);
    const Json of_class = in.at("class");
    if (of_class.text() != name_of(class_of(e.kind)))
      of_class.refuse(
          fmt::format("{}, the class of {}", name_of(class_of(e.kind)), name_of(e.kind)));
    e.phase = named<Phase>(in.at("phase"), count_to(Phase::optimizer));
    e.precision = named<Precision>(in.at("precision"), kPrecisions);
    e.stream = static_cast<std::uint16_t>(index(in.at("stream"), t_.streams.size()));
    e.layer = in.at("layer").small_integer(-1, kMostLayers);
    e.provenance = named<Provenance>(in.at("cost"), kProvenances);
    e.bytes = in.at("bytes").integer(0, kMostBytes);
    e.flops = in.at("flops").number(0, 1e30);
    if (const auto kind = in.find("group_kind"))
      e.group_kind = named<CommGroup>(*kind, kCommGroups);
    e.sender = flag(in, "sender");
    e.recompute = flag(in, "recompute");
    e.host_waits = flag(in, "host_waits");
    operators_.push_back(e);
  }

  void slot(const Json& in) {
    in.allow_only(Keys{"device", "block", "pass", "micro_batch", "beside"});
    TimelineSlot s;
    const Json device = in.at("device");
    s.device = index(device, t_.devices.size());
    if (!t_.slots.empty() && s.device < t_.slots.back().device)
      device.refuse("slots device after device");
    s.name = name(in.at("block").text());
    s.kind = named<SlotKind>(in.at("pass"), kSlotKinds);
    s.micro_batch = in.at("micro_batch").small_integer(-1, 1 << 30);
    if (s.kind == SlotKind::pair) s.beside = in.at("beside").small_integer(0, 1 << 30);
    t_.slots.push_back(s);
  }

  void events() {
    const Json list = json_.at("events");
    const std::size_t n = list.size();
    std::vector<Picoseconds> latest(t_.devices.size() * t_.streams.size(), 0);
    bool waits = false;
    for (std::size_t i = 0; i < n; ++i) {
      const Json row = list.at(i);
      constexpr std::size_t kColumns = 8;
      if (i == 0) waits = row.size() > kColumns;
      if (row.size() != kColumns + (waits ? 1 : 0))
        row.refuse(fmt::format("{} items, as the first event has", kColumns + (waits ? 1 : 0)));
      t_.events.push_back(event(row, n));
      const TimelineEvent& e = t_.events.back();
      if (i > 0 && e.slot < t_.events[i - 1].slot) row.at(1).refuse("events slot after slot");
      Picoseconds& before = latest[e.device * t_.streams.size() + e.stream];
      if (e.start < before)
        row.at(2).refuse(
            fmt::format("at least {}, when the event before it in its stream started", before));
      before = e.start;
      if (waits) add_waits(row.at(kColumns), i);
    }
    if (waits) t_.first_wait.push_back(static_cast<std::uint32_t>(t_.waits.size()));
    for (std::size_t i = 0; i < n; ++i)
      if (const std::uint32_t peer = t_.events[i].peer;
          peer != kNoEvent && t_.events[peer].peer != i)
        list.at(i).at(7).refuse("a peer whose peer this is");
  }

  TimelineEvent event(const Json& row, std::size_t count) const {
    TimelineEvent e = operators_[index(row.at(0), operators_.size())];
    e.slot = index(row.at(1), t_.slots.size());
    e.device = t_.slots[e.slot].device;
    e.start = row.at(2).integer(0, t_.makespan);
    e.end = row.at(3).integer(e.start, t_.makespan);
    e.issued = row.at(4).integer(kUnknownTime, e.start);
    const Json joined = row.at(5);
    e.joined = joined.integer(kUnknownTime, e.end);
    if (e.joined != kUnknownTime && e.joined < e.start)
      joined.refuse("-1 or a time not before the start");
    if (e.joined != kUnknownTime && !is_communication(e.kind))
      joined.refuse(fmt::format("-1: a {} meets nobody", name_of(e.kind)));
    e.group = index_or(row.at(6), t_.groups.size(), kNoGroup);
    e.peer = index_or(row.at(7), count, kNoEvent);
    return e;
  }

  void add_waits(const Json& list, std::size_t event) {
    t_.first_wait.push_back(static_cast<std::uint32_t>(t_.waits.size()));
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Json distance = list.at(i);
      const auto back = distance.integer(1, static_cast<std::int64_t>(event));
      const auto other = static_cast<std::uint32_t>(static_cast<std::int64_t>(event) - back);
      if (t_.events[other].device != t_.events[event].device)
        distance.refuse("an event of the same device");
      t_.waits.push_back(other);
    }
  }

  void memory(const Json& row) {
    if (row.size() != 3) row.refuse("[device, time, bytes]");
    const MemorySample m{index(row.at(0), t_.devices.size()), row.at(1).integer(0, t_.makespan),
                         row.at(2).integer(0, kMostBytes)};
    if (!t_.memory.empty() && m.time < t_.memory.back().time) row.at(1).refuse("samples by time");
    t_.memory.push_back(m);
  }

  const Json& json_;
  Timeline t_;
  std::unordered_map<std::string, std::uint32_t> names_;
  std::vector<TimelineEvent> operators_;
};

}  // namespace

Timeline read_timeline(const Json& json) {
  return Reader(json).read();
}

}  // namespace steploom
