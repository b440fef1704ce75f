#include "profiler/fit_corrections.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "profiler/fit_kernels.h"
#include "sim/correction.h"
#include "sim/correction_base.h"
#include "sim/cost_model.h"

namespace steploom {
namespace {

constexpr std::string_view kHot = "hot card: ";  // begins the leave-out rows of corrections
constexpr double kOctavesPerKnot = 2;            // at least, between neighbouring knots
constexpr std::size_t kMostKnots = 5;
constexpr std::size_t kMostNames = 2;  // of choices
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
  using Shape = std::array<std::int64_t, 9>;
  std::map<Key, std::map<Shape, Sample>> best;
  for (const MeasuredPoint& p : points) {
    const Work w = operator_of(p.ask);
    if (p.stats.samples == 0 || p.ask.uneven || correction_axes(w.kind).empty()) continue;
    const double predicted = correction_base(profile, w, model.cost({w, GroupShape{}}).time) * 1e6;
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

// Widths of heads are few and each has kernels of its own: a knot for every one. So it is with the
// choices where they are a name more than a size: RMSNorm or LayerNorm, heads of 64 or 128.
std::vector<double> every_value(const std::vector<Sample>& of, std::size_t axis) {
  std::set<double> values;
  for (const Sample& s : of) values.insert(std::round(std::exp2(correction_point(s.work)[axis])));
  return {values.begin(), values.end()};
}

std::vector<Axis> axes_over(OpKind kind, const std::vector<Sample>& of) {
  std::vector<Axis> axes;
  const auto names = correction_axes(kind);
  for (std::size_t a = 0; a < names.size(); ++a) {
    if (names[a] == "widths" || names[a] == "choices") {
      std::vector<double> values = every_value(of, a);
      if (names[a] == "widths" || values.size() <= kMostNames) {
        axes.push_back(make_axis(std::string(names[a]), std::move(values)));
        continue;
      }
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

constexpr Smoothing kSmoothing{0.1, 0.01};
constexpr Smoothing kAttentionSmoothing{0.1, 0.001};

// Attention is fitted width by width: between kernels of two widths nothing is smooth.
Grid fit_widths(const std::vector<Axis>& axes, const std::vector<Point>& points, const Folds& folds,
                int without) {
  const std::vector<Axis> others(axes.begin() + 1, axes.end());
  Grid all{axes, {}};
  for (const double width : axes.front().log2_knots) {
    std::vector<Point> some;
    Folds their_folds;
    for (std::size_t i = 0; i < points.size(); ++i) {
      if (std::abs(points[i].log2_point[0] - width) > 1e-6) continue;
      some.push_back(points[i]);
      std::rotate(some.back().log2_point.begin(), some.back().log2_point.begin() + 1,
                  some.back().log2_point.end());
      if (!folds.empty()) their_folds.push_back(folds[i]);
    }
    const Grid one = fit_points(others, some, kAttentionSmoothing, their_folds, without);
    all.values.insert(all.values.end(), one.values.begin(), one.values.end());
  }
  return all;
}

Grid fit_correction(OpKind kind, const std::vector<Axis>& axes, const std::vector<Point>& points,
                    const Folds& folds = {}, int without = -1) {
  if (kind == OpKind::attention) return fit_widths(axes, points, folds, without);
  return fit_points(axes, points, kSmoothing, folds, without);
}

// A kind's grid, and what it says of each sample when that sample's fold is left out.
struct Fitted {
  Grid grid;
  std::vector<double> left_out;  // microseconds
};

Fitted fit(OpKind kind, const std::vector<Axis>& axes, const std::vector<Sample>& of,
           const Folds& folds) {
  std::vector<Point> points;
  for (const Sample& s : of)
    points.push_back({correction_point(s.work), s.predicted_us, s.measured_us});
  std::vector<double> left_out = leave_out(folds, [&](int fold) {
    return predict_points(fit_correction(kind, axes, points, folds, fold), points);
  });
  return {fit_correction(kind, axes, points), std::move(left_out)};
}

std::vector<double> measured_us(const std::vector<Sample>& of) {
  std::vector<double> us;
  for (const Sample& s : of) us.push_back(s.measured_us);
  return us;
}

// The first knot of attention's axes that a sample lies on: its widths.
double width_of(const Sample& s) {
  return std::round(std::exp2(correction_point(s.work)[0]));
}

bool has_width(const Correction* c, double width) {
  if (c == nullptr) return false;
  const std::vector<double>& knots = c->grid.axes[0].knots;
  return std::find(knots.begin(), knots.end(), width) != knots.end();
}

// Samples of those widths of which there are enough.
std::vector<Sample> of_enough_widths(const std::vector<Sample>& of, const Correction* before) {
  std::map<double, std::size_t> counts;
  for (const Sample& s : of) ++counts[width_of(s)];
  std::vector<Sample> enough;
  for (const Sample& s : of)
    if (counts[width_of(s)] >= (has_width(before, width_of(s)) ? kReplacingPoints : kLeastPoints))
      enough.push_back(s);
  return enough;
}

// A grid with the widths of both, `fresh` counting where both have one; the other axes agree.
Grid joined_widths(const Grid& before, const Grid& fresh) {
  std::map<double, std::pair<const Grid*, std::size_t>> rows;
  for (const Grid* g : {&fresh, &before})
    for (std::size_t i = 0; i < g->axes[0].knots.size(); ++i)
      rows.try_emplace(g->axes[0].knots[i], g, i);
  Grid all{fresh.axes, {}};
  std::vector<double> widths;
  for (const auto& [width, row] : rows) {
    const auto& [grid, i] = row;
    const auto size = static_cast<std::ptrdiff_t>(grid->values.size() / grid->axes[0].knots.size());
    const auto first = grid->values.begin() + static_cast<std::ptrdiff_t>(i) * size;
    widths.push_back(width);
    all.values.insert(all.values.end(), first, first + size);
  }
  all.axes[0] = make_axis(fresh.axes[0].name, std::move(widths));
  return all;
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
  for (const auto& [key, all] : samples(profile, cluster, points)) {
    const auto found = corrections.find(key);
    const Correction* before = found == corrections.end() ? nullptr : &found->second;
    const bool by_width = key.first == OpKind::attention;
    const std::vector<Sample> of = by_width ? of_enough_widths(all, before) : all;
    if (of.size() < (before != nullptr && !by_width ? kReplacingPoints : kLeastPoints)) continue;
    std::vector<Axis> axes = axes_over(key.first, of);
    if (by_width && before != nullptr) {  // widths that are kept need the axes that they were on
      axes = before->grid.axes;
      axes[0] = make_axis(axes[0].name, every_value(of, 0));
    }
    Fitted fitted = fit(key.first, axes, of, scattered_folds(of.size()));
    for (std::size_t i = 0; i < of.size(); ++i) {
      Scored& scored = by_class[class_name(of[i].work)];
      scored.measured.push_back(of[i].measured_us);
      scored.predicted.push_back(fitted.left_out[i]);
    }
    if (by_width && before != nullptr) fitted.grid = joined_widths(before->grid, fitted.grid);
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
                         measured_us(of),
                         fit(key.first, axes_over(key.first, of), of, folds).left_out));
  }
  return rows;
}

}  // namespace steploom
