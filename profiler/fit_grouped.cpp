#include "profiler/fit_grouped.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "models/error.h"
#include "profiler/fit_score.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr double kLaunchUs = 5;   // of each product
constexpr double kMovingUs = 20;  // sorting, expand and finalize of a tiny layer
constexpr double kBandwidthFactor = 0.8;
constexpr double kLongUs = 100;
constexpr int kRounds = 4;  // of Gauss-Newton
constexpr Smoothing kSmoothing{0.1, 1e-2};

std::vector<Axis> grid_axes() {
  return {make_axis("tokens", {4, 16, 64, 256, 1024, 4096}),
          make_axis("n", {64, 256, 1024, 4096, 16384}),
          make_axis("k", {64, 256, 1024, 4096, 16384}), make_axis("experts", {1, 4, 16, 64, 256})};
}

double base_us(const ProfiledDevice& device, const ExpertLayer& layer) {
  return layer.moving_us + 2 * kLaunchUs +
         (product_base(device, layer.up) + product_base(device, layer.down)) * 1e6;
}

struct Layers {
  std::vector<ExpertLayer> tuned;
  std::vector<ExpertLayer> fell_back;  // on a slow kernel
};

Layers read_layers(const ProfiledDevice& device, const MeasuredTable& table) {
  const char* const names[] = {"tokens", "hidden", "expert_ffn", "top_k", "experts", "tp", "ep"};
  std::vector<std::size_t> columns;
  for (const char* name : names) columns.push_back(table.column(name));
  const std::size_t gpu = table.column("gpu"), routing = table.column("routing"),
                    us = table.column("us");
  std::map<std::vector<double>, std::vector<ExpertLayer>> by_shape;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    if (table.rows[row][gpu] != device.name || table.rows[row][routing] != "balanced") continue;
    std::vector<double> v;
    for (const std::size_t column : columns) v.push_back(table.number(row, column));
    ExpertLayer layer = expert_layer(device, v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
    layer.us = table.number(row, us);
    by_shape[{v.begin() + 1, v.end()}].push_back(layer);
  }
  Layers result;
  for (const auto& [shape, layers] : by_shape) {
    const bool slow = std::any_of(layers.begin(), layers.end(), [&](const ExpertLayer& layer) {
      return fell_back(device, layer, layer.us);
    });
    std::vector<ExpertLayer>& to = slow ? result.fell_back : result.tuned;
    to.insert(to.end(), layers.begin(), layers.end());
  }
  return result;
}

}  // namespace

ExpertLayer expert_layer(const ProfiledDevice& device, double tokens, double hidden,
                         double expert_ffn, double top_k, double experts, double tp, double ep) {
  const double mine = experts / ep;
  const double rows = tokens * top_k / experts;
  const double width = expert_ffn / tp;
  const double bytes = 2 * (3 * rows * mine * hidden + tokens * hidden);
  ExpertLayer layer;
  layer.up = {rows, 2 * width, hidden, mine};
  layer.down = {rows, hidden, width, mine};
  layer.moving_us = kMovingUs + bytes / (kBandwidthFactor * device.memory_bandwidth) * 1e6;
  return layer;
}

bool fell_back(const ProfiledDevice& device, const ExpertLayer& layer, double us) {
  return us > kFellBack * base_us(device, layer);
}

double layer_us(const Profile& profile, const ExpertLayer& layer) {
  return layer.moving_us +
         (grouped_seconds(profile, layer.up) + grouped_seconds(profile, layer.down)) * 1e6;
}

void fit_layers(Profile& profile, const std::vector<ExpertLayer>& layers, const Folds& folds,
                int without) {
  const std::vector<Axis> axes = grid_axes();
  profile.grouped_matmul = {kLaunchUs, {axes, std::vector<std::int32_t>(size_of(axes), 0)}};
  for (int round = 0; round < kRounds; ++round) {
    std::vector<Row> rows;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (!folds.empty() && folds[i] == without) continue;
      const double now = layer_us(profile, layers[i]);
      Row& row = rows.emplace_back();
      row.octaves = portable_log2(layers[i].us / now);
      for (const ProductShape* product : {&layers[i].up, &layers[i].down}) {
        // d log2(layer) / d octaves(product) is the product's share of the layer.
        const double share = grouped_seconds(profile, *product) * 1e6 / now;
        const auto at = grouped_point(*product);
        add_lookup(row, axes, at, share);
        row.octaves += share * octaves_at(profile.grouped_matmul.grid, at);
      }
    }
    profile.grouped_matmul.grid = fit_grid(axes, rows, kSmoothing);
  }
}

void fit_grouped(Profile& profile, const MeasuredTable& table) {
  const Layers all = read_layers(profile.device, table);
  const std::vector<ExpertLayer>& layers = all.tuned;
  if (layers.empty()) {
    throw Error(
        {table.reading, "", "balanced expert layers on " + profile.device.name, "none", ""});
  }
  const Folds folds = scattered_folds(layers.size());
  std::vector<double> predicted = leave_out(folds, [&](int fold) {
    Profile without;
    without.device = profile.device;
    fit_layers(without, layers, folds, fold);
    std::vector<double> us;
    for (const ExpertLayer& layer : layers) us.push_back(layer_us(without, layer));
    return us;
  });
  fit_layers(profile, layers);
  std::vector<double> measured;
  std::vector<bool> is_long;
  for (const ExpertLayer& layer : layers) {
    measured.push_back(layer.us);
    is_long.push_back(layer.us >= kLongUs);
  }
  profile.leave_out.push_back(
      score("expert layers of 0.1 ms and more", measured, predicted, is_long));
  profile.leave_out.push_back(
      score("expert layers, all but those that fell back", measured, predicted));
  for (const ExpertLayer& layer : all.fell_back) {
    measured.push_back(layer.us);
    predicted.push_back(layer_us(profile, layer));  // no fit has seen it
  }
  profile.leave_out.push_back(
      score("expert layers, those that fell back too", measured, predicted));
}

}  // namespace steploom
