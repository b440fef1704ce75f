#include "traces/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <ostream>
#include <string_view>

namespace steploom {
namespace {

// Each at least 3 : 1 against both backgrounds (WCAG 2.1, 1.4.11).
constexpr std::array<std::string_view, 8> kColours{"#2f7ed8", "#d95f02", "#1b9e77", "#b45fc4",
                                                   "#a6761d", "#e0457b", "#0f9aa8", "#7f7f7f"};
constexpr int kShapes = 4;

constexpr double kLeft = 84, kTop = 48, kWidth = 560, kHeight = 320, kLegend = 250, kLine = 18;
constexpr double kBelow = 64;  // the x axis and its title

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string marker(int shape, double x, double y) {
  switch (shape) {
    case 1:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"7\" height=\"7\"", x - 3.5,
                         y - 3.5);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l4.5 8h-9z\"", x, y - 5);
    case 3:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 5l-5 5l-5 -5z\"", x, y - 5);
    default:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.8\"", x, y);
  }
}

class Writer {
 public:
  Writer(std::ostream& out, const Plot& plot) : out_(out), p_(plot) {
    double top = 0;
    for (const PlotSeries& s : p_.series)
      for (const PlotPoint& point : s.points) top = std::max(top, point.y.value_or(0));
    y_ticks_ = ticks_up_to(top, 6);
  }

  void write() {
    const double legend = kTop + kLine * static_cast<double>(p_.series.size() + 4);
    const double width = kLeft + kWidth + kLegend;
    const double height = std::max(kTop + kHeight + kBelow, legend);
    out_ << fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
        "height=\"{1}\" role=\"img\">\n",
        width, height);
    out_ << "<title>" << escaped(p_.title) << "</title>\n" << kStyle;
    out_ << fmt::format("<rect class=\"back\" width=\"{}\" height=\"{}\"/>\n", width, height);
    text(kLeft, 24, "head", p_.title);
    axes();
    for (std::size_t i = 0; i < p_.series.size(); ++i) line(i);
    write_legend();
    out_ << "</svg>\n";
  }

 private:
  static constexpr std::string_view kStyle =
      "<style>\n"
      "text{font:12px sans-serif;fill:#222}.head{font-size:14px;font-weight:bold}"
      ".mid{text-anchor:middle}.end{text-anchor:end}\n"
      ".back{fill:#fff}.axis{stroke:#555;fill:none}.grid{stroke:#ddd}"
      ".line{fill:none;stroke-width:2}.ring{fill:none;stroke:#222;stroke-width:1.5}\n"
      "@media (prefers-color-scheme:dark){text{fill:#ddd}.back{fill:#16181d}.axis{stroke:#aaa}"
      ".grid{stroke:#3a3d44}.ring{stroke:#ddd}}\n"
      "</style>\n";

  double x(double value) const {
    const double first = p_.x_ticks.front().at, last = p_.x_ticks.back().at;
    constexpr double kMargin = 24;
    if (last <= first) return kLeft + kWidth / 2;
    return kLeft + kMargin + (value - first) / (last - first) * (kWidth - 2 * kMargin);
  }
  double y(double value) const { return kTop + kHeight - value / y_ticks_.back() * kHeight; }

  void text(double at_x, double at_y, std::string_view style, std::string_view what) {
    out_ << fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>\n", at_x, at_y,
                        style, escaped(what));
  }

  void axes() {
    for (const double tick : y_ticks_) {
      out_ << fmt::format("<path class=\"grid\" d=\"M{} {:.1f}h{}\"/>\n", kLeft, y(tick), kWidth);
      text(kLeft - 8, y(tick) + 4, "end", p_.y_label(tick));
    }
    out_ << fmt::format("<path class=\"axis\" d=\"M{} {}v{}h{}\"/>\n", kLeft, kTop, kHeight,
                        kWidth);
    double free = -1e9;  // where the next label has room
    for (const PlotTick& tick : p_.x_ticks) {
      out_ << fmt::format("<path class=\"axis\" d=\"M{:.1f} {}v4\"/>\n", x(tick.at),
                          kTop + kHeight);
      const double half = 3.5 * static_cast<double>(tick.label.size()) + 4;
      if (x(tick.at) - half < free) continue;
      free = x(tick.at) + half;
      text(x(tick.at), kTop + kHeight + 18, "mid", tick.label);
    }
    text(kLeft + kWidth / 2, kTop + kHeight + 44, "mid", p_.x_title);
    out_ << fmt::format(
        "<text transform=\"translate(16 {:.1f}) rotate(-90)\" class=\"mid\">{}</text>\n",
        kTop + kHeight / 2, escaped(p_.y_title));
  }

  static std::string_view colour(std::size_t series) { return kColours[series % kColours.size()]; }
  static int shape(std::size_t series) { return static_cast<int>(series % kShapes); }

  void line(std::size_t series) {
    std::string path;
    bool drawing = false;
    for (const PlotPoint& point : p_.series[series].points) {
      if (point.y)
        path += fmt::format("{}{:.1f} {:.1f}", drawing ? "L" : "M", x(point.x), y(*point.y));
      drawing = point.y.has_value();
    }
    if (path.empty()) return;
    out_ << fmt::format("<path class=\"line\" stroke=\"{}\" d=\"{}\"/>\n", colour(series), path);
    for (const PlotPoint& point : p_.series[series].points) {
      if (!point.y) continue;
      const double px = x(point.x), py = y(*point.y);
      if (point.ringed)
        out_ << fmt::format("<circle class=\"ring\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"8\"/>\n", px,
                            py);
      out_ << marker(shape(series), px, py)
           << fmt::format(" fill=\"{}\"><title>{}</title></{}>\n", colour(series),
                          escaped(point.tip),
                          shape(series) == 0   ? "circle"
                          : shape(series) == 1 ? "rect"
                                               : "path");
    }
  }

  void write_legend() {
    const double at = kLeft + kWidth + 24;
    double line = kTop + 12;
    text(at, line, "", p_.legend_title);
    for (std::size_t i = 0; i < p_.series.size(); ++i) {
      line += kLine;
      out_ << fmt::format("<path class=\"line\" stroke=\"{}\" d=\"M{} {}h24\"/>\n", colour(i), at,
                          line - 4);
      out_ << marker(shape(i), at + 12, line - 4) << fmt::format(" fill=\"{}\"/>\n", colour(i));
      text(at + 32, line, "", p_.series[i].name);
    }
    line += kLine + 8;
    if (p_.rings.empty()) return;
    out_ << fmt::format("<circle class=\"ring\" cx=\"{}\" cy=\"{}\" r=\"8\"/>\n", at + 12,
                        line - 4);
    text(at + 32, line, "", p_.rings);
  }

  std::ostream& out_;
  const Plot& p_;
  std::vector<double> y_ticks_;
};

}  // namespace

std::vector<double> ticks_up_to(double top, int most) {
  assert(most >= 1);
  if (!(top > 0)) return {0, 1};
  double power = 1;
  while (power * most > top) power /= 10;
  for (;; power *= 10)
    for (const int of : {1, 2, 5}) {
      const double step = of * power;
      if (step * most < top) continue;
      std::vector<double> ticks{0};
      for (int i = 1; ticks.back() < top; ++i) ticks.push_back(step * i);
      return ticks;
    }
}

void write_svg(std::ostream& out, const Plot& plot) {
  assert(!plot.x_ticks.empty());
  Writer(out, plot).write();
}

}  // namespace steploom
