#include "profiler/fit_uneven.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "models/error.h"
#include "profiler/fit_grouped.h"
#include "profiler/fit_score.h"
#include "sim/expert_loads.h"
#include "sim/kernel_model.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr const char* kPowerLaw = "power_law_";

struct UnevenLayer {
  double moving_us = 0;
  double products_us = 0;  // predicted, without kUnevenOctaves
  double us = 0;           // measured
  double rows = 0;         // an expert's, on the mean
  bool fitted_half = false;
  bool fell_back = false;
};

bool in_fitted_half(const std::vector<std::string>& row) {
  std::string asked;  // everything but the time
  for (std::size_t c = 0; c + 1 < row.size(); ++c) asked += row[c] + ",";
  return (std::stoull(digest_of(asked), nullptr, 16) >> 32) % 2 == 0;
}

double product_us(const Profile& profile, ProductShape shape, double skew) {
  const std::vector<double> loads =
      power_law_loads(shape.m * shape.groups, static_cast<int>(shape.groups), skew);
  double sum = 0;
  for (const double load : loads) {
    shape.m = load;
    sum += grouped_seconds(profile, shape);
  }
  return sum / static_cast<double>(loads.size()) * 1e6;
}

struct Columns {
  explicit Columns(const MeasuredTable& t)
      : gpu(t.column("gpu")),
        tokens(t.column("tokens")),
        hidden(t.column("hidden")),
        expert_ffn(t.column("expert_ffn")),
        top_k(t.column("top_k")),
        experts(t.column("experts")),
        tp(t.column("tp")),
        ep(t.column("ep")),
        routing(t.column("routing")),
        us(t.column("us")) {}
  std::size_t gpu, tokens, hidden, expert_ffn, top_k, experts, tp, ep, routing, us;

  std::vector<std::string> shape(const std::vector<std::string>& row) const {
    return {row[hidden], row[expert_ffn], row[top_k], row[experts], row[tp], row[ep]};
  }
  ExpertLayer balanced(const ProfiledDevice& device, const MeasuredTable& t,
                       std::size_t row) const {
    return expert_layer(device, t.number(row, tokens), t.number(row, hidden),
                        t.number(row, expert_ffn), t.number(row, top_k), t.number(row, experts),
                        t.number(row, tp), t.number(row, ep));
  }
};

// Shapes (all columns but tokens and routing) of which a balanced layer fell back.
std::set<std::vector<std::string>> slow_shapes(const Profile& profile, const MeasuredTable& table) {
  const Columns c(table);
  std::set<std::vector<std::string>> slow;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    const auto& cells = table.rows[row];
    if (cells[c.gpu] != profile.device.name || cells[c.routing] != "balanced") continue;
    if (fell_back(profile.device, c.balanced(profile.device, table, row), table.number(row, c.us)))
      slow.insert(c.shape(cells));
  }
  return slow;
}

UnevenLayer read_layer(const Profile& profile, const MeasuredTable& table, const Columns& c,
                       std::size_t row) {
  const double skew = std::stod(table.rows[row][c.routing].substr(std::string(kPowerLaw).size()));
  const double tokens = table.number(row, c.tokens), hidden = table.number(row, c.hidden);
  const auto experts = static_cast<int>(table.number(row, c.experts));
  const auto ranks = static_cast<int>(table.number(row, c.ep));
  const double rows =
      slowest_rank_rows(tokens * table.number(row, c.top_k), tokens, experts, ranks, skew);
  // As a balanced layer whose tokens choose so many experts that each rank gets these rows.
  const ExpertLayer layer =
      expert_layer(profile.device, tokens, hidden, table.number(row, c.expert_ffn),
                   rows * ranks / tokens, experts, table.number(row, c.tp), ranks);
  UnevenLayer out;
  out.moving_us = layer.moving_us;
  out.products_us = product_us(profile, layer.up, skew) + product_us(profile, layer.down, skew);
  out.us = table.number(row, c.us);
  out.rows = layer.up.m;
  out.fitted_half = in_fitted_half(table.rows[row]);
  return out;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

LeaveOut score_of(std::string what, const std::vector<UnevenLayer>& layers, bool with_fell_back) {
  std::vector<double> measured, predicted;
  for (const UnevenLayer& l : layers) {
    if (l.fitted_half || (l.fell_back && !with_fell_back)) continue;
    measured.push_back(l.us);
    predicted.push_back(l.moving_us + l.products_us * portable_exp2(kUnevenOctaves));
  }
  return score(std::move(what), measured, predicted);
}

}  // namespace

UnevenFit fit_uneven(const Profile& profile, const MeasuredTable& table) {
  const Columns c(table);
  const auto slow = slow_shapes(profile, table);
  std::vector<UnevenLayer> layers;
  std::vector<double> octaves;
  std::vector<std::pair<double, double>> residuals;
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    const auto& cells = table.rows[row];
    if (cells[c.gpu] != profile.device.name || !cells[c.routing].starts_with(kPowerLaw)) continue;
    UnevenLayer layer = read_layer(profile, table, c, row);
    layer.fell_back = slow.count(c.shape(cells)) > 0;
    layers.push_back(layer);
    if (!layer.fitted_half || layer.fell_back || layer.us <= layer.moving_us) continue;
    octaves.push_back(portable_log2((layer.us - layer.moving_us) / layer.products_us));
    residuals.emplace_back(portable_log2(layer.rows), octaves.back() - kUnevenOctaves);
  }
  if (octaves.empty())
    throw Error({table.reading, "", "expert layers of power-law routing on " + profile.device.name,
                 "none", ""});
  return {
      median(std::move(octaves)), std::move(residuals),
      score_of("expert layers under power-law routing, the half not fitted to", layers, false),
      score_of("expert layers under power-law routing, those that fell back too", layers, true)};
}

UnevenFit move_by_rows(Profile& profile, const MeasuredTable& table) {
  constexpr int kRounds = 6;
  constexpr std::size_t kFewest = 20;  // layers that a knot needs to be moved
  Grid& grid = profile.grouped_matmul.grid;
  const std::vector<double>& knots = grid.axes.front().log2_knots;
  const std::size_t stride = grid.values.size() / knots.size();
  UnevenFit fit = fit_uneven(profile, table);
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t k = 0; k < knots.size(); ++k) {
      std::vector<double> near;
      for (const auto& [rows, octaves] : fit.residuals)
        if (std::abs(std::clamp(rows, knots.front(), knots.back()) - knots[k]) <= 1)
          near.push_back(octaves);
      if (near.size() < kFewest) continue;
      const auto shift = static_cast<std::int32_t>(std::lround(1000 * median(std::move(near))));
      for (std::size_t i = 0; i < stride; ++i) grid.values[k * stride + i] += shift;
    }
    fit = fit_uneven(profile, table);
  }
  return fit;
}

}  // namespace steploom
