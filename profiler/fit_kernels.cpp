#include "profiler/fit_kernels.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "models/error.h"
#include "models/shapes.h"
#include "profiler/fit_score.h"
#include "sim/kernel_model.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr double kMatmulLaunchUs = 2.5;  // the least product in the tables takes 2.6
constexpr double kAttentionLaunchUs = 8;
constexpr double kLongUs = 100;             // products that matter to a training step
constexpr double kLargeBytes = 256 * 1024;  // collectives that do

std::vector<double> cross_validate(const std::vector<Axis>& axes, const std::vector<Point>& points,
                                   const Smoothing& by, const Folds& folds) {
  return leave_out(folds, [&](int fold) {
    return predict_points(fit_points(axes, points, by, folds, fold), points);
  });
}

std::vector<double> measured(const std::vector<Point>& points) {
  std::vector<double> us;
  for (const Point& p : points) us.push_back(p.us);
  return us;
}

std::vector<bool> at_least(const std::vector<Point>& points, double us) {
  std::vector<bool> result;
  for (const Point& p : points) result.push_back(p.us >= us);
  return result;
}

void need(const std::vector<Point>& points, const MeasuredTable& table, const std::string& what) {
  if (!points.empty()) return;
  throw Error({table.reading, "", "measurements of " + what, "none", ""});
}

OpKind collective_named(const MeasuredTable& table, std::size_t row, const std::string& name) {
  static const std::map<std::string, OpKind> known{{"all_reduce", OpKind::all_reduce},
                                                   {"all_gather", OpKind::all_gather},
                                                   {"reduce_scatter", OpKind::reduce_scatter},
                                                   {"alltoall", OpKind::all_to_all}};
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  throw Error({table.reading, "line " + std::to_string(row + 2),
               "all_reduce, all_gather, reduce_scatter or alltoall", "'" + name + "'", ""});
}

}  // namespace

Grid fit_points(const std::vector<Axis>& axes, const std::vector<Point>& points,
                const Smoothing& by, const Folds& folds, int without) {
  std::vector<Row> rows;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!folds.empty() && folds[i] == without) continue;
    Row& row = rows.emplace_back();
    row.octaves = portable_log2(points[i].us / points[i].base_us);
    add_lookup(row, axes, std::span<const double>(points[i].log2_point.data(), axes.size()), 1);
  }
  return fit_grid(axes, rows, by);
}

std::vector<double> predict_points(const Grid& grid, const std::vector<Point>& points) {
  std::vector<double> us;
  for (const Point& p : points) {
    const std::span<const double> at(p.log2_point.data(), grid.axes.size());
    us.push_back(p.base_us * portable_exp2(octaves_at(grid, at)));
  }
  return us;
}

void fit_matmul(Profile& profile, const MeasuredTable& table) {
  const std::size_t dtype = table.column("dtype"), m = table.column("m"), n = table.column("n"),
                    k = table.column("k"), us = table.column("us");
  std::vector<Point> points;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    if (table.rows[row][dtype] != "bfloat16") continue;
    const ProductShape shape{table.number(row, m), table.number(row, n), table.number(row, k), 1};
    Point p;
    const auto at = matmul_point(shape);
    std::copy(at.begin(), at.end(), p.log2_point.begin());
    p.base_us = kMatmulLaunchUs + product_base(profile.device, shape) * 1e6;
    p.us = table.number(row, us);
    points.push_back(p);
  }
  need(points, table, "bf16 products");
  const std::vector<double> wide{32,   64,   128,  256,   512,   1024,
                                 2048, 4096, 8192, 16384, 32768, 65536};
  const std::vector<Axis> axes{
      make_axis("m", {128, 192, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768}),
      make_axis("n", wide), make_axis("k", wide)};
  const Smoothing smoothing{0.1, 1e-3};
  profile.matmul = {kMatmulLaunchUs, fit_points(axes, points, smoothing)};
  const std::vector<double> predicted =
      cross_validate(axes, points, smoothing, scattered_folds(points.size()));
  profile.leave_out.push_back(score("bf16 products of 0.1 ms and more", measured(points), predicted,
                                    at_least(points, kLongUs)));
  profile.leave_out.push_back(score("bf16 products, all", measured(points), predicted));

  // Harder: every product of one m, n or k predicted from the others.
  std::vector<double> whole_us, whole_predicted;
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    std::vector<double> sizes;
    for (const Point& p : points) sizes.push_back(p.log2_point[axis]);
    const Folds folds = folds_by_value(sizes);
    const std::vector<double> blind = cross_validate(axes, points, smoothing, folds);
    for (std::size_t i = 0; i < points.size(); ++i) {
      if (folds[i] < 0 || points[i].us < kLongUs) continue;
      whole_us.push_back(points[i].us);
      whole_predicted.push_back(blind[i]);
    }
  }
  profile.leave_out.push_back(
      score("bf16 products of 0.1 ms and more, at an m, n or k left out whole", whole_us,
            whole_predicted));
}

void fit_precisions(Profile& profile, const MeasuredTable& table,
                    const std::array<double, kPrecisions>& peak_of) {
  const std::size_t dtype = table.column("dtype"), m = table.column("m"), n = table.column("n"),
                    k = table.column("k"), us = table.column("us");
  const std::vector<double> few{128, 512, 2048, 8192, 32768};
  const std::vector<Axis> axes{make_axis("m", few), make_axis("n", few), make_axis("k", few)};
  const Smoothing smoothing{0.1, 1e-3};
  for (const Precision precision : {Precision::fp8, Precision::fp8_block}) {
    const double peak = peak_of[static_cast<std::size_t>(precision)];
    std::vector<Point> points;
    for (std::size_t row = 0; row < table.rows.size(); ++row) {
      if (table.rows[row][dtype] != name_of(precision)) continue;
      const Work work =
          product(Phase::forward, precision, static_cast<std::int64_t>(table.number(row, m)),
                  static_cast<std::int64_t>(table.number(row, n)),
                  static_cast<std::int64_t>(table.number(row, k)));
      Point p;
      const auto at = precision_point(work);
      std::copy(at.begin(), at.end(), p.log2_point.begin());
      p.base_us = 1e6 * in_precision_seconds(profile, peak, work,
                                             matmul_seconds(profile, product_shape(work)));
      p.us = table.number(row, us);
      points.push_back(p);
    }
    if (points.empty()) continue;
    const std::vector<double> predicted =
        cross_validate(axes, points, smoothing, scattered_folds(points.size()));
    const std::string what = std::string(name_of(precision)) + " products";
    profile.leave_out.push_back(score(what + " of 0.1 ms and more", measured(points), predicted,
                                      at_least(points, kLongUs)));
    profile.leave_out.push_back(score(what + ", all", measured(points), predicted));
    profile.precisions.push_back({precision, fit_points(axes, points, smoothing)});
  }
}

void fit_attention(Profile& profile, const MeasuredTable& table) {
  const std::size_t gpu = table.column("gpu"), batch = table.column("batch"),
                    seq = table.column("seq"), heads = table.column("heads"),
                    kv_heads = table.column("kv_heads"), head_dim = table.column("head_dim"),
                    us = table.column("us");
  std::map<int, std::vector<Point>> by_dim;
  std::map<int, std::set<double>> ungrouped;  // heads that were measured with a key-value head each
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    if (table.rows[row][gpu] != profile.device.name) continue;
    const double dim = table.number(row, head_dim);
    const AttentionSize shape{table.number(row, seq),
                              table.number(row, batch),
                              table.number(row, heads),
                              table.number(row, kv_heads),
                              dim,
                              dim};
    Point p;
    const auto at = attention_point(shape);
    std::copy(at.begin(), at.end(), p.log2_point.begin());
    p.base_us = kAttentionLaunchUs + attention_base(profile.device, shape) * 1e6;
    p.us = table.number(row, us);
    by_dim[static_cast<int>(dim)].push_back(p);
    if (shape.heads == shape.kv_heads) ungrouped[static_cast<int>(dim)].insert(shape.heads);
  }
  for (const auto& [dim, points] : by_dim) {
    // How heads share keys matters a little, where it was measured for more than one head.
    const std::vector<double> grouping =
        ungrouped[dim].size() > 1 ? std::vector<double>{1, 4, 16, 96} : std::vector<double>{1};
    const std::vector<Axis> axes{
        make_axis("tokens", {512, 1024, 2048, 4096, 8192, 16384}),
        make_axis("heads_sequences", {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1536}),
        make_axis("heads_per_kv_head", grouping)};
    const Smoothing smoothing{0.03, 1e-3};
    profile.attention.push_back({dim, {kAttentionLaunchUs, fit_points(axes, points, smoothing)}});
    const std::vector<double> predicted =
        cross_validate(axes, points, smoothing, scattered_folds(points.size()));
    const std::string what = "attention forward, head width " + std::to_string(dim);
    profile.leave_out.push_back(
        score(what + ", 0.1 ms and more", measured(points), predicted, at_least(points, kLongUs)));
    profile.leave_out.push_back(score(what + ", all", measured(points), predicted));
  }
  if (by_dim.empty()) need({}, table, "attention on " + profile.device.name);
}

void fit_collectives(Profile& profile, const MeasuredTable& table) {
  const std::size_t gpu = table.column("gpu"), name = table.column("collective"),
                    gpus = table.column("gpus"), bytes = table.column("bytes"),
                    us = table.column("us");
  struct Series {
    std::vector<double> bytes;
    std::vector<double> us;
  };
  std::map<std::pair<OpKind, int>, Series> series;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    if (table.rows[row][gpu] != profile.device.name) continue;
    const OpKind kind = collective_named(table, row, table.rows[row][name]);
    Series& one = series[{kind, static_cast<int>(table.number(row, gpus))}];
    one.bytes.push_back(table.number(row, bytes));
    one.us.push_back(table.number(row, us));
  }
  std::vector<double> all_us, all_predicted;
  std::vector<bool> large;
  for (const auto& [key, one] : series) {
    const std::vector<Axis> axes{
        make_axis("bytes", {4096, 32768, 131072, 524288, 1048576, 2097152, 4194304, 8388608,
                            16777216, 33554432, 134217728, 536870912})};
    const Smoothing smoothing{0.05, 1e-6};
    std::vector<Point> points;
    for (std::size_t i = 0; i < one.us.size(); ++i) {
      points.push_back({{portable_log2(one.bytes[i])}, 1, one.us[i]});
    }
    const Folds folds = scattered_folds(points.size());
    const auto fit = [&](int without) {
      Grid grid = fit_points(axes, points, smoothing, folds, without);
      for (std::size_t i = 1; i < grid.values.size(); ++i) {
        grid.values[i] = std::max(grid.values[i], grid.values[i - 1]);
      }
      return grid;
    };
    const std::vector<double> predicted =
        leave_out(folds, [&](int fold) { return predict_points(fit(fold), points); });
    for (std::size_t i = 0; i < points.size(); ++i) {
      all_us.push_back(points[i].us);
      all_predicted.push_back(predicted[i]);
      large.push_back(one.bytes[i] >= kLargeBytes);
    }
    profile.collectives.push_back({key.first, key.second, fit(-1)});
  }
  if (series.empty()) need({}, table, "collectives on " + profile.device.name);
  profile.leave_out.push_back(
      score("collectives of 256 KiB and more", all_us, all_predicted, large));
  profile.leave_out.push_back(score("collectives, all", all_us, all_predicted));
}

}  // namespace steploom
