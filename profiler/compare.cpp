#include "profiler/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace steploom {
namespace {

constexpr double kLongMicroseconds = 100;  // as docs/accuracy.md splits products
constexpr double kShortMicroseconds = 20;  // memory-bound: below, latency decides

using Errors = std::map<std::string, std::vector<PointError>>;

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<std::size_t>(std::lround(share * last))];
}

std::string kind_and_phase(const Ask& ask) {
  return fmt::format("{} {}{}", name_of(ask.work.kind), name_of(ask.work.phase),
                     ask.uneven ? " uneven" : "");
}

// The same shape by any provider.
std::string shape_of(const Ask& ask) {
  Ask any = ask;
  any.provider = "any";
  return to_text(any);
}

// Least median of each grouped shape.
std::map<std::string, double> fastest_times(const std::vector<MeasuredPoint>& points) {
  std::map<std::string, double> fastest;
  for (const MeasuredPoint& p : points) {
    if (p.ask.work.kind != OpKind::grouped_matmul || p.stats.samples == 0) continue;
    const auto [entry, added] = fastest.try_emplace(shape_of(p.ask), p.stats.median_us);
    if (!added) entry->second = std::min(entry->second, p.stats.median_us);
  }
  return fastest;
}

}  // namespace

ClassError class_error(const std::string& what, const std::vector<PointError>& errors) {
  std::vector<double> plain;
  std::vector<double> absolute;
  ClassError out;
  for (const PointError& e : errors) {
    plain.push_back(e.error);
    absolute.push_back(std::abs(e.error));
    if (absolute.back() >= out.worst) {
      out.worst = absolute.back();
      out.worst_point = e.point;
    }
  }
  out.what = what;
  out.points = static_cast<std::int64_t>(errors.size());
  out.bias = quantile(plain, 0.5);
  out.median = quantile(absolute, 0.5);
  out.p95 = quantile(absolute, 0.95);
  return out;
}

PointError error_of(const MeasuredPoint& point, const CostModel& model) {
  const double predicted_us = static_cast<double>(model.cost({point.ask.work, {}}).time) * 1e-6;
  return {predicted_us / point.stats.median_us - 1, to_text(point.ask)};
}

std::vector<MeasuredPoint> counted_points(const std::vector<MeasuredPoint>& points) {
  const auto fastest = fastest_times(points);
  std::vector<MeasuredPoint> counted;
  for (const MeasuredPoint& p : points) {
    if (p.stats.samples == 0) continue;
    const auto shape = fastest.find(shape_of(p.ask));
    if (shape == fastest.end() || p.stats.median_us <= shape->second) counted.push_back(p);
  }
  return counted;
}

Comparison compare_points(const std::vector<MeasuredPoint>& points, const CostModel& model) {
  Errors kinds;
  Errors sums;
  Comparison out;
  out.skipped = std::count_if(points.begin(), points.end(),
                              [](const MeasuredPoint& p) { return p.stats.samples == 0; });
  for (const MeasuredPoint& p : counted_points(points)) {
    const PointError error = error_of(p, model);
    kinds[kind_and_phase(p.ask)].push_back(error);
    const std::string group =
        fmt::format("{}{}", name_of(class_of(p.ask.work.kind)), p.ask.uneven ? " uneven" : "");
    sums["all " + group].push_back(error);
    const double least = is_product(p.ask) ? kLongMicroseconds : kShortMicroseconds;
    if (p.stats.median_us >= least) {
      sums[fmt::format("all {} of {} us and more", group, least)].push_back(error);
    }
  }
  for (const Errors* errors : {&kinds, &sums}) {
    for (const auto& [what, list] : *errors) out.classes.push_back(class_error(what, list));
  }
  return out;
}

std::vector<ProviderWins> provider_wins(const std::vector<MeasuredPoint>& points) {
  const auto fastest = fastest_times(points);
  std::map<std::pair<std::string, std::string>, std::vector<double>> slower;
  for (const MeasuredPoint& p : points) {
    if (p.ask.work.kind != OpKind::grouped_matmul || p.ask.work.groups == 1) continue;
    if (p.stats.samples == 0) continue;
    const std::string what = kind_and_phase(p.ask) + (p.ask.uneven ? "" : " even");
    slower[{what, p.ask.provider}].push_back(p.stats.median_us / fastest.at(shape_of(p.ask)) - 1);
  }
  std::vector<ProviderWins> out;
  for (const auto& [key, list] : slower) {
    out.push_back({key.first, key.second, static_cast<std::int64_t>(list.size()),
                   std::count(list.begin(), list.end(), 0.0), quantile(list, 0.5)});
  }
  return out;
}

}  // namespace steploom
