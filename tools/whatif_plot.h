// The plot of `steploom whatif --svg`: the first sweep along x, a line for each value of the
// others.
//
// Numbers lie on a logarithmic axis unless they are evenly spaced, names side by side. A ring marks
// a point whose best layout differs from the point's before it on the line.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/whatif.h"
#include "traces/svg_plot.h"

namespace steploom {

std::span<const std::string_view> plot_names();  // what can be plotted; the first by default
void check_plot_name(const std::string& name, const std::string& reading);  // throws Error

Plot plot_of(const std::string& title, const std::string& name,
             const std::vector<WhatIfPoint>& points, const std::vector<Sweep>& sweeps,
             const std::vector<LayoutChange>& changes);

void save_plot(const std::filesystem::path& file, const std::string& title, const std::string& name,
               const std::vector<WhatIfPoint>& points, const std::vector<Sweep>& sweeps,
               const std::vector<LayoutChange>& changes);

}  // namespace steploom
