#include "traces/kineto.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>

#include "traces/kernel_names.h"

namespace steploom {
namespace {

constexpr double kMostMicros = 1e16;   // times of day included
constexpr double kLongestStep = 1e12;  // microseconds
constexpr std::string_view kStepMark = "ProfilerStep#";

// Microseconds as they stand in the file.
struct Span {
  double start = 0, duration = 0;
  double end() const { return start + duration; }
};

struct GpuEvent {
  Span span;
  std::int64_t device = 0, stream = 0, correlation = -1;
  std::string name;
  std::optional<Json> args;
  std::optional<double> issued;
};

struct Step {
  std::string name;
  Span span;
};

// PyTorch's names of element types; others are unknown.
Bytes size_of(const std::string& type) {
  static const std::map<std::string, Bytes> kSizes{
      {"BFloat16", 2}, {"Half", 2}, {"Float", 4},         {"Double", 8},
      {"Byte", 1},     {"Char", 1}, {"Bool", 1},          {"Short", 2},
      {"Int", 4},      {"Long", 8}, {"Float8_e4m3fn", 1}, {"Float8_e5m2", 1}};
  const auto at = kSizes.find(type);
  return at == kSizes.end() ? 0 : at->second;
}

Span span_of(const Json& event) {
  return {event.at("ts").number(0, kMostMicros), event.at("dur").number(0, kLongestStep)};
}

std::string text_at(const Json& in, std::string_view key) {
  const auto found = in.find(key);
  return found && found->is_text() ? found->text() : "";
}

std::int64_t id_at(const Json& event, const std::optional<Json>& args, std::string_view arg,
                   std::string_view field) {
  if (args)
    if (const auto found = args->find(arg)) return found->integer();
  return event.at(field).integer();
}

std::optional<OpKind> own_kind(const std::optional<Json>& args) {
  if (!args) return std::nullopt;
  const std::string text = text_at(*args, "kind");
  for (int k = 0; k < kOpKinds; ++k)
    if (text == name_of(static_cast<OpKind>(k))) return static_cast<OpKind>(k);
  return std::nullopt;
}

class Importer {
 public:
  explicit Importer(const Json& trace) : trace_(trace) {}

  KinetoImport run() {
    collect();
    choose_step();
    if (gpu_.empty())
      trace_.refuse("a trace with GPU events (categories kernel, gpu_memcpy, gpu_memset)",
                    "was the profiler told to record CUDA activities?");
    std::stable_sort(gpu_.begin(), gpu_.end(), [](const GpuEvent& x, const GpuEvent& y) {
      return std::tuple(x.device, x.span.start) < std::tuple(y.device, y.span.start);
    });
    begin_ = gpu_.front().span.start;
    for (const GpuEvent& e : gpu_) begin_ = std::min(begin_, e.span.start);
    tables();
    for (const GpuEvent& e : gpu_) add(e);
    origin();
    return std::move(out_);
  }

 private:
  void collect() {
    const Json events = trace_.at("traceEvents");
    std::unordered_map<std::int64_t, double> returned;  // launches, by correlation
    for (std::size_t i = 0, n = events.size(); i < n; ++i) {
      const Json e = events.at(i);
      if (text_at(e, "ph") != "X") continue;
      const std::string category = text_at(e, "cat");
      const auto args = e.find("args");
      if (category == "kernel" || category == "gpu_memcpy" || category == "gpu_memset") {
        GpuEvent gpu{span_of(e),
                     id_at(e, args, "device", "pid"),
                     id_at(e, args, "stream", "tid"),
                     -1,
                     e.at("name").text(),
                     args,
                     std::nullopt};
        if (args && args->has("correlation")) gpu.correlation = args->at("correlation").integer();
        gpu_.push_back(std::move(gpu));
      } else if (category == "cuda_runtime" || category == "cuda_driver") {
        if (args && args->has("correlation"))
          returned.try_emplace(args->at("correlation").integer(), span_of(e).end());
      } else if (category == "user_annotation") {
        if (const std::string name = e.at("name").text(); name.starts_with(kStepMark))
          steps_.push_back({name, span_of(e)});
      }
    }
    for (GpuEvent& e : gpu_)
      if (const auto at = returned.find(e.correlation); at != returned.end()) e.issued = at->second;
  }

  void choose_step() {
    if (steps_.empty()) return;
    std::sort(steps_.begin(), steps_.end(), [](const Step& x, const Step& y) {
      return std::tuple(x.span.duration, x.span.start) < std::tuple(y.span.duration, y.span.start);
    });
    const Step& median = steps_[(steps_.size() - 1) / 2];
    out_.step = median.name;
    std::erase_if(gpu_, [&](const GpuEvent& e) {
      const double launched = e.issued.value_or(e.span.start);
      return launched < median.span.start || launched >= median.span.end();
    });
    if (gpu_.empty())
      trace_.refuse("GPU events launched within " + median.name, "the step of median duration");
  }

  // Files with times of day carry nanoseconds at best, whatever their decimals say.
  Picoseconds at(double micros) const {
    constexpr double kTimesOfDay = 1e9;
    const double since = std::max(0.0, micros - begin_);
    return begin_ < kTimesOfDay ? std::llround(since * 1e6) : std::llround(since * 1e3) * 1000;
  }

  void tables() {
    std::set<std::int64_t> streams;
    for (const GpuEvent& e : gpu_) {
      streams.insert(e.stream);
      devices_.try_emplace(e.device, 0);
    }
    Timeline& t = out_.timeline;
    for (const std::int64_t s : streams) {
      streams_[s] = static_cast<std::uint16_t>(t.streams.size());
      t.streams.push_back(fmt::format("stream {}", s));
    }
    for (auto& [id, index] : devices_) {
      index = static_cast<std::uint32_t>(t.devices.size());
      TimelineDevice device;
      device.name = fmt::format("GPU {}", id);
      t.slots.push_back({index, name("step"), -1, SlotKind::forward});
      t.devices.push_back(std::move(device));
    }
  }

  std::uint32_t name(const std::string& text) {
    std::vector<std::string>& table = out_.timeline.names;
    const auto [at, is_new] = names_.try_emplace(text, static_cast<std::uint32_t>(table.size()));
    if (is_new) table.push_back(text);
    return at->second;
  }

  void add(const GpuEvent& gpu) {
    TimelineEvent e;
    e.start = at(gpu.span.start);
    e.end = std::max(e.start, at(gpu.span.end()));
    if (gpu.issued) e.issued = std::min(at(*gpu.issued), e.start);
    e.device = e.slot = devices_.at(gpu.device);
    e.stream = streams_.at(gpu.stream);
    e.name = name(gpu.name);
    e.provenance = Provenance::measured;
    const std::string collective = gpu.args ? text_at(*gpu.args, "Collective name") : "";
    std::optional<OpKind> kind = own_kind(gpu.args);
    if (!kind) kind = kind_of_kernel(gpu.name, collective);
    if (!kind && unnamed_.insert(gpu.name).second) out_.unnamed.push_back(gpu.name);
    e.kind = kind.value_or(OpKind::residual);
    if (class_of(e.kind) == OpClass::optimizer) e.phase = Phase::optimizer;
    if (gpu.args) arguments(*gpu.args, collective, e);
    out_.timeline.makespan = std::max(out_.timeline.makespan, e.end);
    out_.timeline.events.push_back(e);
  }

  void arguments(const Json& args, const std::string& collective, TimelineEvent& e) {
    if (const auto bytes = args.find("bytes")) e.bytes = bytes->integer(0);
    if (!is_communication(e.kind) || collective.empty()) return;
    e.sender = collective == "send";
    std::int64_t elements = 0;
    for (const std::string_view key : {"In msg nelems", "Out msg nelems"})
      if (const auto count = args.find(key))
        elements = std::max(elements, count->integer(0, std::int64_t{1} << 56));
    const std::string type = text_at(args, "dtype");
    e.bytes = elements * size_of(type);
    if (type == "Half") e.precision = Precision::fp16;
    if (type == "Float") e.precision = Precision::fp32;
    const std::string id = text_at(args, "Process Group Name");
    if (!id.empty()) e.group = group(id, args, e.device);
  }

  std::uint32_t group(const std::string& id, const Json& args, std::uint32_t device) {
    std::vector<TimelineGroup>& groups = out_.timeline.groups;
    const auto [at, is_new] = groups_.try_emplace(id, static_cast<std::uint32_t>(groups.size()));
    if (is_new) {
      TimelineGroup g;
      g.name = text_at(args, "Process Group Description");
      if (g.name.empty() || g.name == "undefined") g.name = "group " + id;
      if (const auto size = args.find("Group size"))
        g.ranks = static_cast<std::uint32_t>(size->small_integer(0, 1 << 24));
      groups.push_back(std::move(g));
    }
    std::vector<std::uint32_t>& members = groups[at->second].members;
    if (std::find(members.begin(), members.end(), device) == members.end())
      members.push_back(device);
    return at->second;
  }

  void origin() {
    TimelineOrigin& o = out_.timeline.origin;
    o.source = TimelineSource::imported;
    o.step = out_.timeline.makespan;
    if (const auto info = trace_.find("distributedInfo")) {
      if (const std::string nccl = text_at(*info, "nccl_version"); !nccl.empty())
        o.versions.emplace_back("nccl", nccl);
      constexpr int kMost = 1 << 24;
      if (const auto rank = info->find("rank")) out_.rank = rank->small_integer(0, kMost);
      if (const auto world = info->find("world_size")) out_.world = world->small_integer(1, kMost);
    }
    properties();
    if (steps_.empty()) return;
    const auto duration = [&](std::size_t i) {
      return static_cast<Picoseconds>(std::llround(steps_[i].span.duration * 1e3)) * 1000;
    };
    const std::size_t n = steps_.size(), last = n - 1;
    o.steps = static_cast<std::int32_t>(n);
    o.step = duration(last / 2);
    constexpr std::size_t kFewest = 4;  // below, quartiles say nothing
    if (n < kFewest || o.step == 0) return;
    Repeats r;
    r.blocks = o.steps;
    r.lower_quartile = duration(last / 4);
    r.upper_quartile = duration(last - last / 4);
    r.repeatability =
        static_cast<double>(r.upper_quartile - r.lower_quartile) / static_cast<double>(o.step);
    o.repeats = r;
  }

  void properties() {
    const auto list = trace_.find("deviceProperties");
    if (!list || !list->is_array()) return;
    for (std::size_t i = 0; i < list->size(); ++i) {
      const Json device = list->at(i);
      const auto at = devices_.find(device.at("id").integer());
      if (at == devices_.end()) continue;
      if (const auto sms = device.find("numSms"))
        out_.timeline.devices[at->second].sms =
            static_cast<std::uint16_t>(sms->small_integer(0, 0xffff));
    }
  }

  const Json& trace_;
  KinetoImport out_;
  std::vector<GpuEvent> gpu_;
  std::vector<Step> steps_;  // by duration
  double begin_ = 0;         // of the first GPU event
  std::map<std::int64_t, std::uint32_t> devices_;
  std::map<std::int64_t, std::uint16_t> streams_;
  std::map<std::string, std::uint32_t> names_, groups_;
  std::set<std::string> unnamed_;
};

}  // namespace

KinetoImport import_kineto(const Json& trace) {
  return Importer(trace).run();
}

}  // namespace steploom
