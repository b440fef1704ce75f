#include "tools/whatif_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <ostream>

#include "models/atomic_file.h"
#include "models/error.h"
#include "models/nearest.h"
#include "traces/units.h"

namespace steploom {
namespace {

struct Quantity {
  std::string_view name;
  std::string_view title;
  double (*value)(const WhatIfPoint&);
  std::string (*label)(double);
};

constexpr std::size_t kQuantities = 5;
constexpr std::array<Quantity, kQuantities> kTable{{
    {"tokens-per-gpu", "tokens/s per GPU",
     [](const WhatIfPoint& p) { return p.best->tokens_per_second; }, count_text},
    {"tokens", "tokens/s", tokens_per_second, count_text},
    {"mfu", "MFU", [](const WhatIfPoint& p) { return p.best->mfu; }, share_text},
    {"step", "step time", [](const WhatIfPoint& p) { return static_cast<double>(p.best->step); },
     [](double ps) { return ps > 0 ? time_text(static_cast<Picoseconds>(ps)) : std::string("0"); }},
    {"gpu-hours", "GPU-hours per 1T tokens", gpu_hours_per_trillion, count_text},
}};

const Quantity& quantity_named(const std::string& name, const std::string& reading) {
  const auto at =
      std::find_if(kTable.begin(), kTable.end(), [&](const Quantity& q) { return q.name == name; });
  if (at == kTable.end())
    throw Error({reading, "", fmt::format("one of {}", fmt::join(plot_names(), ", ")),
                 "'" + name + "'", nearest_hint(name, plot_names())});
  return *at;
}

// Where each value of a sweep lies along x.
std::vector<double> positions(const Sweep& sweep) {
  const std::vector<double>& n = sweep.numbers;
  std::vector<double> at;
  bool even = !n.empty();
  for (std::size_t i = 2; i < n.size(); ++i)
    even = even && std::abs((n[i] - n[i - 1]) - (n[1] - n[0])) < 1e-9 * n[i];
  for (std::size_t i = 0; i < sweep.values.size(); ++i)
    at.push_back(n.empty() ? static_cast<double>(i) : even ? n[i] : std::log2(n[i]));
  return at;
}

}  // namespace

std::span<const std::string_view> plot_names() {
  static constexpr auto kNames = [] {
    std::array<std::string_view, kQuantities> names;
    for (std::size_t i = 0; i < kQuantities; ++i) names[i] = kTable[i].name;
    return names;
  }();
  return kNames;
}

void check_plot_name(const std::string& name, const std::string& reading) {
  quantity_named(name, reading);
}

Plot plot_of(const std::string& title, const std::string& name,
             const std::vector<WhatIfPoint>& points, const std::vector<Sweep>& sweeps,
             const std::vector<LayoutChange>& changes) {
  const Quantity& quantity = quantity_named(name, "--plot");
  const Sweep& along = sweeps.front();
  const std::vector<double> at = positions(along);
  Plot plot;
  plot.title = fmt::format("{}: {} of the best layout", title, quantity.title);
  plot.x_title = title_of(along);
  plot.y_title = quantity.title;
  plot.y_label = quantity.label;
  for (std::size_t i = 0; i < at.size(); ++i) plot.x_ticks.push_back({at[i], along.values[i]});
  for (std::size_t s = 1; s < sweeps.size(); ++s)
    plot.legend_title += (s > 1 ? " · " : "") + title_of(sweeps[s]);
  std::vector<bool> changed(points.size());
  for (const LayoutChange& c : changes)
    if (c.sweep == 0) changed[c.to] = true;
  if (std::find(changed.begin(), changed.end(), true) != changed.end())
    plot.rings = "another layout is best";

  std::map<std::vector<std::size_t>, std::size_t> series;  // by the values of the other sweeps
  for (std::size_t i = 0; i < points.size(); ++i) {
    const WhatIfPoint& p = points[i];
    const std::vector<std::size_t> others(p.at.begin() + 1, p.at.end());
    const auto [which, is_new] = series.try_emplace(others, plot.series.size());
    std::string label;
    for (std::size_t s = 1; s < sweeps.size(); ++s)
      label += (s > 1 ? " · " : "") + label_of(sweeps[s], p.at[s]);
    if (is_new) plot.series.push_back({sweeps.size() == 1 ? "best layout" : label, {}});
    PlotPoint point{at[p.at.front()], {}, changed[i], ""};
    if (p.best) {
      point.y = quantity.value(p);
      point.tip = fmt::format("{}{}{}: {} {}, {}", label_of(along, p.at.front()),
                              label.empty() ? "" : " · ", label, quantity.title,
                              quantity.label(*point.y), short_name(p.best->layout));
    }
    plot.series[which->second].points.push_back(std::move(point));
  }
  return plot;
}

void save_plot(const std::filesystem::path& file, const std::string& title, const std::string& name,
               const std::vector<WhatIfPoint>& points, const std::vector<Sweep>& sweeps,
               const std::vector<LayoutChange>& changes) {
  const Plot plot = plot_of(title, name, points, sweeps, changes);
  write_file_atomically(file, [&](std::ostream& out) { write_svg(out, plot); });
}

}  // namespace steploom
