#include "profiler/fit_corrections.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "profiler/fit_kernels.h"
#include "sim/correction.h"
#include "sim/cost_model.h"

namespace steploom {
namespace {

constexpr std::string_view kHot = "hot card: ";  // begins the leave-out rows of corrections
constexpr double kOctavesPerKnot = 2;            // at least, between neighbouring knots
constexpr std::size_t kMostKnots = 5;
constexpr double kLongUs = 100;

using Key = std::pair<OpKind, Phase>;

// A measured shape, and what the uncorrected profile says of it.
struct Sample {
  Work work;
  double measured_us = 0;
  double predicted_us = 0;
};

// The fastest provider of each shape.
std::map<Key, std::vector<Sample>> samples(Profile profile, const Cluster& cluster,
                                           const std::vector<MeasuredPoint>& points) {
  profile.corrections.clear();
  profile.points = {};
  const CostModel model(profile, cluster);
  using Shape = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, Bytes>;
  std::map<Key, std::map<Shape, Sample>> best;
  for (const MeasuredPoint& p : points) {
    const Work& w = p.ask.work;
    if (p.stats.samples == 0 || p.ask.uneven || correction_axes(w.kind).empty()) continue;
    const auto predicted = static_cast<double>(model.cost({w, GroupShape{}}).time) * 1e-6;
    if (predicted <= 0) continue;
    Sample& s = best[{w.kind, w.phase}][{w.m, w.n, w.k, w.groups, w.bytes}];
    if (s.measured_us == 0 || p.stats.median_us < s.measured_us)
      s = {w, p.stats.median_us, predicted};
  }
  std::map<Key, std::vector<Sample>> out;
  for (const auto& [key, shapes] : best)
    for (const auto& [shape, sample] : shapes) out[key].push_back(sample);
  return out;
}

std::vector<Axis> axes_over(OpKind kind, const std::vector<Sample>& of) {
  std::vector<Axis> axes;
  const auto names = correction_axes(kind);
  for (std::size_t a = 0; a < names.size(); ++a) {
    double low = correction_point(of.front().work)[a], high = low;
    for (const Sample& s : of) {
      low = std::min(low, correction_point(s.work)[a]);
      high = std::max(high, correction_point(s.work)[a]);
    }
    const auto intervals =
        std::min(static_cast<std::size_t>((high - low) / kOctavesPerKnot), kMostKnots - 1);
    std::vector<double> knots;
    if (intervals == 0) knots.push_back(std::round(std::exp2((low + high) / 2)));
    for (std::size_t i = 0; intervals > 0 && i <= intervals; ++i)
      knots.push_back(std::round(
          std::exp2(low + (high - low) * static_cast<double>(i) / static_cast<double>(intervals))));
    axes.push_back(make_axis(std::string(names[a]), std::move(knots)));
  }
  return axes;
}

constexpr Smoothing kSmoothing{0.1, 0.01};

// A kind's grid, and what it says of each sample when that sample's fold is left out.
struct Fitted {
  Grid grid;
  std::vector<double> left_out;  // microseconds
};

Fitted fit(OpKind kind, const std::vector<Sample>& of, const Folds& folds) {
  const std::vector<Axis> axes = axes_over(kind, of);
  std::vector<Point> points;
  for (const Sample& s : of)
    points.push_back({correction_point(s.work), s.predicted_us, s.measured_us});
  std::vector<double> left_out = leave_out(folds, [&](int fold) {
    return predict_points(fit_points(axes, points, kSmoothing, folds, fold), points);
  });
  return {fit_points(axes, points, kSmoothing), std::move(left_out)};
}

std::vector<double> measured_us(const std::vector<Sample>& of) {
  std::vector<double> us;
  for (const Sample& s : of) us.push_back(s.measured_us);
  return us;
}

// Products stand by phase, kernels that move data together.
std::string class_and_phase(const Key& key) {
  const OpClass group = class_of(key.first);
  std::string what(name_of(group));
  if (group == OpClass::matmul || group == OpClass::grouped_matmul)
    what += " " + std::string(name_of(key.second));
  return what;
}

}  // namespace

void clear_corrections(Profile& profile) {
  profile.corrections.clear();
  std::erase_if(profile.leave_out, [](const LeaveOut& l) { return l.what.starts_with(kHot); });
  std::erase_if(profile.software,
                [](const std::string& s) { return s.starts_with("corrections: "); });
}

void fit_corrections(Profile& profile, const Cluster& cluster,
                     const std::vector<MeasuredPoint>& points) {
  std::map<Key, Correction> corrections;
  for (const Correction& c : profile.corrections) corrections[{c.kind, c.phase}] = c;
  struct Scored {
    std::vector<double> measured, predicted;
  };
  std::map<std::string, Scored> by_class;  // left-out predictions of all kinds of a class and phase
  for (const auto& [key, of] : samples(profile, cluster, points)) {
    if (of.size() < (corrections.count(key) > 0 ? kReplacingPoints : kLeastPoints)) continue;
    Fitted fitted = fit(key.first, of, scattered_folds(of.size()));
    Scored& scored = by_class[class_and_phase(key)];
    const std::vector<double> measured = measured_us(of);
    scored.measured.insert(scored.measured.end(), measured.begin(), measured.end());
    scored.predicted.insert(scored.predicted.end(), fitted.left_out.begin(), fitted.left_out.end());
    corrections[key] = {key.first, key.second, std::move(fitted.grid)};
  }
  profile.corrections.clear();
  for (auto& [key, correction] : corrections) profile.corrections.push_back(std::move(correction));
  for (const auto& [what, scored] : by_class) {
    const std::string begin = std::string(kHot) + what + ", ";
    std::erase_if(profile.leave_out, [&](const LeaveOut& l) { return l.what.starts_with(begin); });
    std::vector<bool> is_long;
    for (const double us : scored.measured) is_long.push_back(us >= kLongUs);
    profile.leave_out.push_back(score(begin + "all", scored.measured, scored.predicted));
    if (std::count(is_long.begin(), is_long.end(), true) > 0)
      profile.leave_out.push_back(
          score(begin + "0.1 ms and more", scored.measured, scored.predicted, is_long));
  }
}

std::vector<LeaveOut> leave_one_out(const Profile& profile, const Cluster& cluster,
                                    const std::vector<MeasuredPoint>& points) {
  std::vector<LeaveOut> rows;
  for (const auto& [key, of] : samples(profile, cluster, points)) {
    if (of.size() < kLeastPoints) continue;
    Folds folds(of.size());
    std::iota(folds.begin(), folds.end(), 0);
    rows.push_back(score(std::string(name_of(key.first)) + " " + std::string(name_of(key.second)),
                         measured_us(of), fit(key.first, of, folds).left_out));
  }
  return rows;
}

}  // namespace steploom
