#include "profiler/fit_corrections.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <string_view>
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
std::map<Key, std::vector<Sample>> samples(const Profile& profile, const Cluster& cluster,
                                           const std::vector<MeasuredPoint>& points) {
  const CostModel model(profile, cluster);
  using Shape = std::array<std::int64_t, 9>;
  std::map<Key, std::map<Shape, Sample>> best;
  for (const MeasuredPoint& p : points) {
    const Work& w = p.ask.work;
    if (p.stats.samples == 0 || p.ask.uneven || correction_axes(w.kind).empty()) continue;
    const auto predicted = static_cast<double>(model.cost({w, GroupShape{}}).time) * 1e-6;
    if (predicted <= 0) continue;
    Sample& s = best[{w.kind, w.phase}][{w.m, w.n, w.k, w.groups, w.bytes, w.heads, w.kv_heads,
                                         w.head_dim, w.v_head_dim}];
    if (s.measured_us == 0 || p.stats.median_us < s.measured_us)
      s = {w, p.stats.median_us, predicted};
  }
  std::map<Key, std::vector<Sample>> out;
  for (const auto& [key, shapes] : best)
    for (const auto& [shape, sample] : shapes) out[key].push_back(sample);
  return out;
}

// Widths of heads are few and each has kernels of its own: a knot for every one.
std::vector<double> every_value(const std::vector<Sample>& of, std::size_t axis) {
  std::set<double> values;
  for (const Sample& s : of) values.insert(std::round(std::exp2(correction_point(s.work)[axis])));
  return {values.begin(), values.end()};
}

std::vector<Axis> axes_over(OpKind kind, const std::vector<Sample>& of) {
  std::vector<Axis> axes;
  const auto names = correction_axes(kind);
  for (std::size_t a = 0; a < names.size(); ++a) {
    if (names[a] == "widths") {
      axes.push_back(make_axis(std::string(names[a]), every_value(of, a)));
      continue;
    }
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

// What a sample's leave-out error is counted under.
std::string class_name(const Work& w) {
  const OpClass group = class_of(w.kind);
  std::string what(name_of(group));
  if (group == OpClass::memory || group == OpClass::optimizer) return what;
  what += " " + std::string(name_of(w.phase));
  if (group != OpClass::attention) return what;
  what += ", head width " + std::to_string(w.head_dim);
  if (w.v_head_dim != w.head_dim) what += " and " + std::to_string(w.v_head_dim);
  return what;
}

}  // namespace

void fit_corrections(Profile& profile, const Cluster& cluster,
                     const std::vector<MeasuredPoint>& points) {
  profile.corrections.clear();
  std::erase_if(profile.leave_out, [](const LeaveOut& l) { return l.what.starts_with(kHot); });
  const Smoothing smoothing{0.1, 0.01};
  struct Scored {
    std::vector<double> measured, predicted;
  };
  std::map<std::string, Scored> by_class;  // left-out predictions of all kinds of a class and phase
  for (const auto& [key, of] : samples(profile, cluster, points)) {
    if (of.size() < kLeastPoints) continue;
    const auto [kind, phase] = key;
    const std::vector<Axis> axes = axes_over(kind, of);
    std::vector<Point> fitted;
    for (const Sample& s : of)
      fitted.push_back({correction_point(s.work), s.predicted_us, s.measured_us});
    const Folds folds = scattered_folds(fitted.size());
    const std::vector<double> left_out = leave_out(folds, [&](int fold) {
      return predict_points(fit_points(axes, fitted, smoothing, folds, fold), fitted);
    });
    for (std::size_t i = 0; i < of.size(); ++i) {
      Scored& scored = by_class[class_name(of[i].work)];
      scored.measured.push_back(of[i].measured_us);
      scored.predicted.push_back(left_out[i]);
    }
    profile.corrections.push_back({kind, phase, fit_points(axes, fitted, smoothing)});
  }
  for (const auto& [what, scored] : by_class) {
    std::vector<bool> is_long;
    for (const double us : scored.measured) is_long.push_back(us >= kLongUs);
    profile.leave_out.push_back(
        score(std::string(kHot) + what + ", all", scored.measured, scored.predicted));
    if (std::count(is_long.begin(), is_long.end(), true) > 0)
      profile.leave_out.push_back(score(std::string(kHot) + what + ", 0.1 ms and more",
                                        scored.measured, scored.predicted, is_long));
  }
}

}  // namespace steploom
