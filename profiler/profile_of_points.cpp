#include "profiler/profile_of_points.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <string_view>
#include <utility>

#include "models/error.h"

namespace steploom {
namespace {

using ByKey = std::map<PointKey, KernelPoint>;

ProfilePoints sorted(PointsOn on, const ByKey& by_key) {
  ProfilePoints points{std::move(on), {}};
  for (const auto& [key, point] : by_key) points.kernels.push_back(point);
  return points;
}

std::string lower(std::string_view text) {
  std::string out;
  for (const char c : text) out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char c : lower(text)) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      words.back() += c;
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  return words;
}

bool has(const std::vector<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

ProfilePoints points_of(const Measurements& measured) {
  ByKey best;
  for (const MeasuredPoint& p : measured.points) {
    if (p.stats.samples == 0 || p.ask.uneven) continue;
    KernelPoint point{operator_of(p.ask), p.ask.provider, p.stats.median_us,
                      p.stats.q1_us,      p.stats.q3_us,  p.stats.samples};
    const auto [entry, added] = best.try_emplace(point_key(point.work), point);
    if (!added && point.median_us < entry->second.median_us) entry->second = point;
  }
  const MeasuredOn& on = measured.on;
  return sorted(
      {on.gpu, on.driver, on.cuda_runtime, on.cublas, on.cudnn, on.sms, on.method, on.date}, best);
}

ProfilePoints merged(const ProfilePoints& a, const ProfilePoints& b, const std::string& reading) {
  if (a.kernels.empty()) return b;
  if (b.kernels.empty()) return a;
  const auto same = [&](const char* what, const std::string& one, const std::string& other) {
    if (one == other) return;
    throw Error({reading, std::string("/points/") + what, "'" + one + "', as the first has it",
                 "'" + other + "'", "only points of one device and one set of versions merge"});
  };
  same("gpu", a.on.gpu, b.on.gpu);
  same("sms", std::to_string(a.on.sms), std::to_string(b.on.sms));
  same("driver", a.on.driver, b.on.driver);
  same("cuda_runtime", a.on.cuda_runtime, b.on.cuda_runtime);
  same("cublas", a.on.cublas, b.on.cublas);
  if (!a.on.cudnn.empty() && !b.on.cudnn.empty()) same("cudnn", a.on.cudnn, b.on.cudnn);
  same("method", a.on.method, b.on.method);
  ByKey both;
  for (const ProfilePoints* points : {&b, &a})  // what is there is kept
    for (const KernelPoint& p : points->kernels) both.try_emplace(point_key(p.work), p);
  PointsOn on = b.on;
  if (on.cudnn.empty()) on.cudnn = a.on.cudnn;
  on.date = std::max(a.on.date, b.on.date);
  return sorted(std::move(on), both);
}

std::vector<MeasuredPoint> measured_points(const ProfilePoints& points) {
  std::vector<MeasuredPoint> out;
  for (const KernelPoint& p : points.kernels) {
    const Work& w = p.work;
    try {
      Ask ask = w.kind == OpKind::attention
                    ? make_attention_ask(w.phase, attention_of(w), p.provider)
                    : make_ask(w.kind, w.phase, w.m, w.n, w.k, w.groups, false, p.provider);
      out.push_back({std::move(ask), {p.median_us, p.q1_us, p.q3_us, p.samples, 0, 0}, "", 0, ""});
    } catch (const Error&) {
      continue;  // another's kernel
    }
  }
  return out;
}

bool says_memory(const std::string& word) {  // "80gb"
  return word.size() > 2 && word.ends_with("gb") &&
         word.find_first_not_of("0123456789") == word.size() - 2;
}

bool fits(const ProfiledDevice& device, const std::string& gpu, int sms) {
  if (device.sms != sms) return false;
  const std::vector<std::string> mine = words_of(device.name), its = words_of(gpu);
  if (!has(its, mine.front())) return false;
  for (const std::string& word : its)
    if (says_memory(word) && !has(mine, word)) return false;
  constexpr std::array<std::string_view, 3> kForms{"sxm", "pcie", "nvl"};
  return std::none_of(kForms.begin(), kForms.end(),
                      [&](std::string_view form) { return has(its, form) && !has(mine, form); });
}

const Profile* built_in_for(const std::string& gpu, int sms) {
  for (const std::string_view name : profile_names()) {
    const Profile& p = built_in_profile(name);
    if (fits(p.device, gpu, sms)) return &p;
  }
  return nullptr;
}

Cluster cluster_for(const Profile& profile) {
  const auto names = cluster_names();
  const bool known = std::find(names.begin(), names.end(), profile.device.name) != names.end();
  Cluster cluster = load_cluster(known ? std::string_view(profile.device.name) : names.front(), 1);
  if (known) return cluster;
  cluster.device.name = profile.device.name;
  cluster.device.sms = profile.device.sms;
  cluster.device.memory_bandwidth = profile.device.memory_bandwidth;
  cluster.device.peak_flops = profile.device.peak_flops;
  return cluster;
}

}  // namespace steploom
