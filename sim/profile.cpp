#include "sim/profile.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <fstream>
#include <initializer_list>
#include <map>
#include <sstream>
#include <tuple>
#include <utility>

#include "models/embedded.h"
#include "models/error.h"
#include "models/file_name.h"
#include "models/json_reader.h"
#include "models/nearest.h"
#include "sim/correction.h"
#include "sim/profile_clock_json.h"
#include "sim/profile_json_parts.h"
#include "sim/profile_points_json.h"

namespace steploom {
namespace {

constexpr int kVersion = 1;
constexpr double kMostOctaves = 40000;  // thousandths; 2^40 µs is twelve days

using Names = std::initializer_list<std::string_view>;

void allow_only(const Json& json, Names known) {
  json.allow_only(std::span<const std::string_view>(known.begin(), known.size()));
}

Grid read_grid(const Json& json, std::span<const std::string_view> axis_names) {
  Grid grid;
  const Json axes = json.at("axes");
  if (axes.size() != axis_names.size()) {
    axes.refuse(std::to_string(axis_names.size()) + " axes, found " + std::to_string(axes.size()));
  }
  for (std::size_t a = 0; a < axes.size(); ++a) {
    const Json axis = axes.at(a);
    allow_only(axis, {"name", "knots"});
    if (axis.at("name").text() != axis_names[a]) {
      axis.at("name").refuse("the axis '" + std::string(axis_names[a]) + "'");
    }
    const Json knots = axis.at("knots");
    std::vector<double> values;
    for (std::size_t k = 0; k < knots.size(); ++k) {
      values.push_back(knots.at(k).number(1, 1e15));
      if (k > 0 && values[k] <= values[k - 1]) knots.at(k).refuse("a knot above the one before");
    }
    if (values.empty()) knots.refuse("at least one knot");
    grid.axes.push_back(make_axis(axis.at("name").text(), std::move(values)));
  }
  const Json values = json.at("octaves_thousandths");
  const std::size_t size = size_of(grid.axes);
  if (values.size() != size) {
    values.refuse(std::to_string(size) + " values, one a crossing, found " +
                  std::to_string(values.size()));
  }
  for (std::size_t v = 0; v < size; ++v) {
    grid.values.push_back(static_cast<std::int32_t>(values.at(v).integer(
        static_cast<std::int64_t>(-kMostOctaves), static_cast<std::int64_t>(kMostOctaves))));
  }
  return grid;
}

Grid read_grid(const Json& json, Names axis_names) {
  return read_grid(json, std::span<const std::string_view>(axis_names.begin(), axis_names.size()));
}

Surface read_surface(const Json& json, Names axis_names) {
  return {json.at("launch_us").number(0, 1e6), read_grid(json, axis_names)};
}

ProfiledDevice read_device(const Json& json) {
  allow_only(json, {"name", "sms", "peak_flops", "memory_bandwidth", "bf16"});
  ProfiledDevice device;
  device.name = json.at("name").text();
  device.sms = json.at("sms").small_integer(1, 4096);
  device.peak_flops = json.at("peak_flops").number(1e9, 1e18);
  device.memory_bandwidth = json.at("memory_bandwidth").number(1e6, 1e16);
  if (const auto bf16 = json.find("bf16")) device.bf16 = bf16->boolean();
  return device;
}

Gaps read_gaps(const Json& json) {
  constexpr double kMostUs = 1000;
  allow_only(json, {"kernel_us", "kernel_event_us", "collective_event_us", "source"});
  return {json.at("kernel_us").number(0, kMostUs), json.at("kernel_event_us").number(0, kMostUs),
          json.at("collective_event_us").number(0, kMostUs), json.at("source").text()};
}

std::vector<Correction> read_corrections(const Json& json) {
  std::vector<Correction> corrections;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const Json one = json.at(i);
    allow_only(one, {"kind", "phase", "axes", "octaves_thousandths"});
    Correction c;
    c.kind = read_named<OpKind>(one.at("kind"), kOpKinds, "a kind of kernel");
    c.phase = read_named<Phase>(one.at("phase"), 4, "a phase");
    const auto axes = correction_axes(c.kind);
    if (axes.empty()) one.at("kind").refuse("a kind of kernel that may be corrected");
    c.grid = read_grid(one, axes);
    const auto key = [](const Correction& k) { return std::tuple(k.kind, k.phase); };
    if (!corrections.empty() && key(c) <= key(corrections.back()))
      one.refuse("corrections sorted by kind and phase, each once");
    corrections.push_back(std::move(c));
  }
  return corrections;
}

std::vector<PrecisionSurface> read_precisions(const Json& json) {
  std::vector<PrecisionSurface> surfaces;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const Json one = json.at(i);
    allow_only(one, {"precision", "axes", "octaves_thousandths"});
    const auto precision = read_named<Precision>(one.at("precision"), kPrecisions, "a precision");
    if (is_16_bit(precision))
      one.at("precision").refuse("a precision other than the profile's own");
    if (!surfaces.empty() && precision <= surfaces.back().precision)
      one.refuse("precisions in their order, each once");
    surfaces.push_back({precision, read_grid(one, {"m", "n", "k"})});
  }
  return surfaces;
}

constexpr std::array<OpKind, 5> kCollectives{OpKind::all_reduce, OpKind::all_gather,
                                             OpKind::reduce_scatter, OpKind::all_to_all,
                                             OpKind::send_recv};

OpKind read_collective(const Json& json) {
  std::vector<std::string_view> names;
  const std::string found = json.text();
  for (const OpKind kind : kCollectives) {
    if (name_of(kind) == found) return kind;
    names.push_back(name_of(kind));
  }
  json.refuse("a collective", nearest_hint(found, names));
}

std::vector<CollectiveCurve> read_collectives(const Json& json) {
  std::vector<CollectiveCurve> curves;
  for (std::size_t c = 0; c < json.size(); ++c) {
    const Json one = json.at(c);
    allow_only(one, {"collective", "ranks", "nodes", "source", "axes", "octaves_thousandths"});
    CollectiveCurve curve{read_collective(one.at("collective")),
                          one.at("ranks").small_integer(2, 1 << 20), read_grid(one, {"bytes"})};
    if (const auto nodes = one.find("nodes")) {
      curve.nodes = nodes->small_integer(1, curve.ranks);
      if (curve.ranks % curve.nodes != 0) nodes->refuse("nodes that divide the ranks");
    }
    if (const auto source = one.find("source")) curve.source = source->text();
    const std::vector<std::int32_t>& values = curve.grid.values;
    if (!std::is_sorted(values.begin(), values.end())) {
      one.at("octaves_thousandths").refuse("times that do not fall as bytes grow");
    }
    const auto key = [](const CollectiveCurve& k) {
      return std::tuple(k.collective, k.ranks, k.nodes);
    };
    if (!curves.empty() && key(curve) <= key(curves.back())) {
      one.refuse("curves sorted by collective, ranks and nodes, each once");
    }
    curves.push_back(std::move(curve));
  }
  for (const OpKind kind : kCollectives) {
    const auto has = [kind](const CollectiveCurve& c) {
      return c.collective == kind && c.nodes == 1;
    };
    if (kind != OpKind::send_recv && std::none_of(curves.begin(), curves.end(), has)) {
      json.refuse("a curve of " + std::string(name_of(kind)) + " in one node");
    }
  }
  return curves;
}

std::vector<ModelledPart> read_modelled(const Json& json) {
  std::vector<ModelledPart> parts;
  for (std::size_t i = 0; i < json.size(); ++i) {
    parts.push_back(read_named<ModelledPart>(json.at(i), kModelledParts, "a part of a profile"));
    if (i > 0 && parts[i] <= parts[i - 1])
      json.at(i).refuse("parts in the order matmul, grouped_matmul, attention, collectives");
  }
  return parts;
}

Profile read_profile(const Json& json) {
  // The version first: a later version may know more keys.
  const Json version = json.at("steploom_profile");
  if (version.integer() != kVersion)
    version.refuse("version " + std::to_string(kVersion),
                   "make it again: steploom profile, or fit_profile");
  allow_only(json, {"steploom_profile", "name",           "device",    "source",
                    "attribution",      "made",           "date",      "software",
                    "matmul",           "grouped_matmul", "attention", "attention_backward",
                    "memory",           "gaps",           "clock",     "collectives",
                    "corrections",      "fabrics",        "points",    "leave_out",
                    "modelled",         "precisions"});
  Profile p;
  p.name = json.at("name").text();
  p.device = read_device(json.at("device"));
  p.source = json.at("source").text();
  p.attribution = json.at("attribution").text();
  p.made = json.at("made").text();
  p.date = json.at("date").text();
  const Json software = json.at("software");
  for (std::size_t i = 0; i < software.size(); ++i) p.software.push_back(software.at(i).text());

  const Json matmul = json.at("matmul");
  allow_only(matmul, {"launch_us", "axes", "octaves_thousandths"});
  p.matmul = read_surface(matmul, {"m", "n", "k"});
  const Json grouped = json.at("grouped_matmul");
  allow_only(grouped, {"launch_us", "axes", "octaves_thousandths"});
  p.grouped_matmul = read_surface(grouped, {"tokens", "n", "k", "experts"});
  if (const auto precisions = json.find("precisions")) p.precisions = read_precisions(*precisions);
  const Json attention = json.at("attention");
  for (std::size_t i = 0; i < attention.size(); ++i) {
    const Json one = attention.at(i);
    allow_only(one, {"head_dim", "launch_us", "axes", "octaves_thousandths"});
    p.attention.push_back({one.at("head_dim").small_integer(1, 4096),
                           read_surface(one, {"tokens", "heads_sequences", "heads_per_kv_head"})});
  }
  if (p.attention.empty()) attention.refuse("attention of at least one head width");
  const Json backward = json.at("attention_backward");
  allow_only(backward, {"axes", "octaves_thousandths"});
  p.attention_backward = read_grid(backward, {"tokens"});
  const Json memory = json.at("memory");
  allow_only(memory, {"bandwidth_factor", "latency_us"});
  p.memory = {memory.at("bandwidth_factor").number(0.01, 1),
              memory.at("latency_us").number(0, 1e6)};
  if (const auto gaps = json.find("gaps")) p.gaps = read_gaps(*gaps);
  if (const auto clock = json.find("clock")) p.clock = read_clock(*clock);
  p.collectives = read_collectives(json.at("collectives"));
  if (const auto corrections = json.find("corrections"))
    p.corrections = read_corrections(*corrections);
  if (const auto fabrics = json.find("fabrics")) p.fabrics = read_fabrics(*fabrics);
  if (const auto points = json.find("points"))
    p.points = read_profile_points(*points, p.device.sms);
  const Json leave_out = json.at("leave_out");
  for (std::size_t i = 0; i < leave_out.size(); ++i) {
    const Json one = leave_out.at(i);
    allow_only(one, {"what", "points", "median", "p95", "worst"});
    p.leave_out.push_back({one.at("what").text(), one.at("points").integer(0),
                           one.at("median").number(0, 1e9), one.at("p95").number(0, 1e9),
                           one.at("worst").number(0, 1e9)});
  }
  if (const auto modelled = json.find("modelled")) p.modelled = read_modelled(*modelled);
  return p;
}

}  // namespace

std::string_view name_of(ModelledPart part) {
  constexpr std::array<std::string_view, kModelledParts> names{"matmul", "grouped_matmul",
                                                               "attention", "collectives"};
  return names[static_cast<std::size_t>(part)];
}

std::string digest_of(std::string_view text) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211u;
  }
  std::string digits(16, '0');
  for (std::size_t i = 16; i-- > 0; hash >>= 4) digits[i] = "0123456789abcdef"[hash & 15];
  return digits;
}

Profile parse_profile(std::string_view text, std::string reading) {
  Profile profile = read_profile(Json::parse(text, std::move(reading)));
  profile.digest = digest_of(text);
  return profile;
}

std::vector<std::string_view> profile_names() {
  std::vector<std::string_view> names;
  for (const EmbeddedFile& file : embedded_profiles()) names.push_back(file.name);
  return names;
}

const Profile& built_in_profile(std::string_view name) {
  static const std::map<std::string_view, Profile> profiles = [] {
    std::map<std::string_view, Profile> all;
    for (const EmbeddedFile& file : embedded_profiles()) {
      all.emplace(file.name, parse_profile(file.text, std::string(file.name)));
    }
    return all;
  }();
  const auto found = profiles.find(name);
  if (found != profiles.end()) return found->second;
  throw Error({"--profile", "", "a built-in profile or the path of a JSON file",
               "'" + std::string(name) + "'", nearest_hint(name, profile_names())});
}

Profile load_profile(std::string_view name_or_path) {
  if (!names_a_file(name_or_path)) return built_in_profile(name_or_path);
  std::ifstream in{std::string(name_or_path), std::ios::binary};
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) throw Error({std::string(name_or_path), "", "a readable profile", "none", ""});
  return parse_profile(text.str(), std::string(name_or_path));
}

}  // namespace steploom
