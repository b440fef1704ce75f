#include "sim/profile_points_json.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "sim/json_text.h"
#include "sim/profile_json_parts.h"

namespace steploom {
namespace {

constexpr int kVersion = 1;
constexpr std::int64_t kMostSize = std::int64_t{1} << 40;
constexpr double kMostUs = 1e9;

void read_attention(const Json& json, Work& w) {
  w.heads = json.at("heads").small_integer(1, 1 << 20);
  w.kv_heads = json.at("kv_heads").small_integer(1, 1 << 20);
  w.head_dim = json.at("head_dim").small_integer(1, 1 << 16);
  w.v_head_dim = json.at("v_head_dim").small_integer(1, 1 << 16);
}

KernelPoint read_point(const Json& json) {
  static constexpr std::array<std::string_view, 16> kKeys{
      "kind",     "phase",      "m",     "n",        "k",         "groups", "heads", "kv_heads",
      "head_dim", "v_head_dim", "bytes", "provider", "median_us", "q1_us",  "q3_us", "samples"};
  json.allow_only(kKeys);
  KernelPoint p;
  p.work.kind = read_named<OpKind>(json.at("kind"), kOpKinds, "a kind of kernel");
  if (is_communication(p.work.kind)) json.at("kind").refuse("a kernel, not a collective");
  p.work.phase = read_named<Phase>(json.at("phase"), 4, "a phase");
  const OpClass group = class_of(p.work.kind);
  const bool product = group == OpClass::matmul || group == OpClass::grouped_matmul;
  p.work.m = json.at("m").integer(1, kMostSize);
  p.work.n = json.at("n").integer(1, kMostSize);
  p.work.k = json.at("k").integer(product ? 1 : 0, kMostSize);
  p.work.groups = json.at("groups").integer(1, group == OpClass::grouped_matmul ? 1 << 20 : 1);
  if (group == OpClass::attention) {
    read_attention(json, p.work);
  } else {
    for (const char* key : {"heads", "kv_heads", "head_dim", "v_head_dim"})
      if (const auto given = json.find(key)) given->refuse("heads in attention only");
  }
  p.work.bytes = json.at("bytes").integer(1, std::int64_t{1} << 60);
  p.provider = json.at("provider").text();
  p.median_us = json.at("median_us").number(0, kMostUs);
  if (p.median_us <= 0) json.at("median_us").refuse("a time above 0");
  p.q1_us = json.at("q1_us").number(0, kMostUs);
  p.q3_us = json.at("q3_us").number(0, kMostUs);
  if (p.q1_us > p.median_us || p.median_us > p.q3_us)
    json.at("median_us").refuse("a median between the quartiles");
  p.samples = json.at("samples").integer(1, kMostSize);
  return p;
}

std::string to_json(const KernelPoint& p) {
  const Work& w = p.work;
  std::string heads;
  if (w.kind == OpKind::attention)
    heads = fmt::format("\"heads\":{},\"kv_heads\":{},\"head_dim\":{},\"v_head_dim\":{},", w.heads,
                        w.kv_heads, w.head_dim, w.v_head_dim);
  return fmt::format(
      "{{\"kind\":{},\"phase\":{},\"m\":{},\"n\":{},\"k\":{},\"groups\":{},{}\"bytes\":{},"
      "\"provider\":{},\"median_us\":{},\"q1_us\":{},\"q3_us\":{},\"samples\":{}}}",
      json_string(name_of(w.kind)), json_string(name_of(w.phase)), w.m, w.n, w.k, w.groups, heads,
      w.bytes, json_string(p.provider), p.median_us, p.q1_us, p.q3_us, p.samples);
}

}  // namespace

ProfilePoints read_profile_points(const Json& json, int sms) {
  const Json version = json.at("version");
  if (version.integer() != kVersion)
    version.refuse(fmt::format("points of version {}", kVersion),
                   "make the profile again from its raw points: steploom profile");
  static constexpr std::array<std::string_view, 10> kKeys{
      "version", "gpu", "driver", "cuda_runtime", "cublas",
      "cudnn",   "sms", "method", "date",         "kernels"};
  json.allow_only(kKeys);
  ProfilePoints points;
  points.on.gpu = json.at("gpu").text();
  points.on.driver = json.at("driver").text();
  points.on.cuda_runtime = json.at("cuda_runtime").text();
  points.on.cublas = json.at("cublas").text();
  if (const auto cudnn = json.find("cudnn")) points.on.cudnn = cudnn->text();
  points.on.sms = json.at("sms").small_integer(1, 4096);
  if (points.on.sms != sms)
    json.at("sms").refuse(fmt::format("{}, the SMs of the profile's device", sms));
  points.on.method = json.at("method").text();
  points.on.date = json.at("date").text();
  const Json kernels = json.at("kernels");
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    const Json one = kernels.at(i);
    KernelPoint p = read_point(one);
    if (!points.kernels.empty() && point_key(p.work) <= point_key(points.kernels.back().work))
      one.refuse("points sorted by their shape, each shape once");
    points.kernels.push_back(std::move(p));
  }
  if (points.kernels.empty()) kernels.refuse("at least one point");
  return points;
}

std::string to_json(const ProfilePoints& points) {
  const PointsOn& on = points.on;
  const std::string cudnn =
      on.cudnn.empty() ? "" : fmt::format("\"cudnn\": {}, ", json_string(on.cudnn));
  std::string text = fmt::format(
      "{{\"version\": {}, \"gpu\": {}, \"driver\": {}, \"cuda_runtime\": {}, \"cublas\": {}, "
      "{}\"sms\": {}, \"date\": {},\n\"method\": {},\n\"kernels\": [",
      kVersion, json_string(on.gpu), json_string(on.driver), json_string(on.cuda_runtime),
      json_string(on.cublas), cudnn, on.sms, json_string(on.date), json_string(on.method));
  const char* between = "\n";
  for (const KernelPoint& p : points.kernels) {
    text += between + to_json(p);
    between = ",\n";
  }
  return text + "]}";
}

}  // namespace steploom
