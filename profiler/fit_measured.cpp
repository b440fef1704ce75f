#include "profiler/fit_measured.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "models/error.h"
#include "profiler/fit_corrections.h"
#include "profiler/profile_of_points.h"

namespace steploom {
namespace {

// What two profiles must have in common to be merged: everything that was fitted to tables.
std::string surfaces_of(Profile p) {
  p.name.clear();
  p.date.clear();
  p.source.clear();
  p.attribution.clear();
  p.made.clear();
  p.software.clear();
  p.collectives.clear();
  p.corrections.clear();
  p.fabrics.clear();
  p.leave_out.clear();
  p.points = {};
  return to_json(p);
}

std::vector<CollectiveCurve> curves_of_both(const Profile& earlier, const Profile& later) {
  std::map<std::tuple<OpKind, int, int>, CollectiveCurve> curves;
  for (const Profile* p : {&later, &earlier})
    for (const CollectiveCurve& c : p->collectives)
      curves.try_emplace({c.collective, c.ranks, c.nodes}, c);
  std::vector<CollectiveCurve> out;
  for (const auto& [key, curve] : curves) out.push_back(curve);
  return out;
}

std::vector<ProfiledFabric> fabrics_of_both(const Profile& earlier, const Profile& later) {
  std::map<std::string, ProfiledFabric> fabrics;
  for (const Profile* p : {&later, &earlier})
    for (const ProfiledFabric& f : p->fabrics) fabrics.try_emplace(f.name, f);
  std::vector<ProfiledFabric> out;
  for (const auto& [name, fabric] : fabrics) out.push_back(fabric);
  return out;
}

// Corrections and leave-out rows that only the earlier profile has.
void add_corrections(Profile& to, const Profile& from) {
  const auto key = [](const Correction& c) { return std::pair(c.kind, c.phase); };
  for (const Correction& c : from.corrections)
    if (std::none_of(to.corrections.begin(), to.corrections.end(),
                     [&](const Correction& other) { return key(other) == key(c); }))
      to.corrections.push_back(c);
  std::sort(to.corrections.begin(), to.corrections.end(),
            [&](const Correction& a, const Correction& b) { return key(a) < key(b); });
  for (const LeaveOut& row : from.leave_out)
    if (std::none_of(to.leave_out.begin(), to.leave_out.end(),
                     [&](const LeaveOut& other) { return other.what == row.what; }))
      to.leave_out.push_back(row);
}

}  // namespace

void lay_points(Profile& profile, const std::vector<Measurements>& files, bool keep_points) {
  std::vector<MeasuredPoint> points;
  ProfilePoints fresh;
  for (const Measurements& measured : files) {
    points.insert(points.end(), measured.points.begin(), measured.points.end());
    if (keep_points) fresh = merged(fresh, points_of(measured), measured.reading);
  }
  if (keep_points) {
    // What the profile held before counts in the fit, unless it was measured anew.
    const PointIndex index(fresh.kernels);
    for (MeasuredPoint& p : measured_points(profile.points))
      if (index.find(operator_of(p.ask)) == nullptr) points.push_back(std::move(p));
    profile.points = merged(profile.points, fresh, files.empty() ? "" : files.back().reading);
  }
  fit_corrections(profile, cluster_for(profile), points);
  for (const Measurements& measured : files) {
    const MeasuredOn& on = measured.on;
    std::string what = "corrections: measured on " + on.gpu + ", driver " + on.driver + ", CUDA " +
                       on.cuda_runtime + ", cuBLAS " + on.cublas +
                       (on.cudnn.empty() ? "" : ", cuDNN " + on.cudnn) + ", " + on.date;
    if (std::find(profile.software.begin(), profile.software.end(), what) == profile.software.end())
      profile.software.push_back(std::move(what));
  }
}

Profile merge_profiles(const Profile& a, const Profile& b, const std::string& reading_b) {
  if (a.device.name != b.device.name)
    throw Error({reading_b, "/device/name", "'" + a.device.name + "', as the first has it",
                 "'" + b.device.name + "'", ""});
  if (surfaces_of(a) != surfaces_of(b))
    throw Error({reading_b, "", "the same fitted surfaces as the first profile's", "others",
                 "the two were made from different base profiles; measure on one of them"});
  const auto date_of = [](const Profile& p) {
    return p.points.kernels.empty() ? p.date : p.points.on.date;
  };
  const bool a_is_later = date_of(a) > date_of(b);
  const Profile& later = a_is_later ? a : b;
  const Profile& earlier = a_is_later ? b : a;
  Profile out = later;
  out.collectives = curves_of_both(earlier, later);
  out.fabrics = fabrics_of_both(earlier, later);
  add_corrections(out, earlier);
  for (const std::string& s : earlier.software)
    if (std::find(out.software.begin(), out.software.end(), s) == out.software.end())
      out.software.push_back(s);
  const ProfilePoints points = merged(earlier.points, later.points, reading_b);
  if (!points.kernels.empty()) fit_corrections(out, cluster_for(out), measured_points(points));
  out.points = points;
  return out;
}

}  // namespace steploom
