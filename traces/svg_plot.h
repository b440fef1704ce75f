// A plot of lines as an SVG file: axes, legend, points; no script, no fonts of its own.
//
// It follows the reader's light or dark scheme. Lines differ by colour and by the shape of their
// points, so that they can be told apart without colours. Every point has a tooltip. Points may be
// ringed; what rings mean stands below the legend.
#pragma once

#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace steploom {

struct PlotPoint {
  double x = 0;
  std::optional<double> y;  // none: the line is broken here
  bool ringed = false;
  std::string tip;
};

struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;  // by x
};

struct PlotTick {
  double at = 0;
  std::string label;
};

struct Plot {
  std::string title;
  std::string x_title, y_title;
  std::vector<PlotTick> x_ticks;  // ascending; the axis reaches from the first to the last
  std::function<std::string(double)> y_label;  // of a tick of the y axis, which begins at 0
  std::string legend_title;
  std::vector<PlotSeries> series;
  std::string rings;  // what a ring means
};

// The ticks of an axis from 0: at most `most` steps of 1, 2 or 5 times a power of ten, the last not
// below `top`.
std::vector<double> ticks_up_to(double top, int most);

void write_svg(std::ostream& out, const Plot& plot);

}  // namespace steploom
