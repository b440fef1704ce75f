#include "traces/svg_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>

#include "traces/units.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(SvgPlot, TicksAreRoundAndReachTheTop) {
  EXPECT_THAT(ticks_up_to(7289, 6), ElementsAre(0, 2000, 4000, 6000, 8000));
  EXPECT_THAT(ticks_up_to(10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(
      ticks_up_to(0.55, 6),
      ElementsAre(0, ::testing::DoubleEq(0.1), ::testing::DoubleEq(0.2), ::testing::DoubleEq(0.3),
                  ::testing::DoubleEq(0.4), ::testing::DoubleEq(0.5), ::testing::DoubleEq(0.6)));
  EXPECT_THAT(ticks_up_to(0, 6), ElementsAre(0, 1));
}

Plot small_plot() {
  Plot plot;
  plot.title = "a < b & \"c\"";
  plot.x_title = "nodes";
  plot.y_title = "tokens/s";
  plot.x_ticks = {{0, "1"}, {1, "2"}, {2, "4"}, {3, "8"}};
  plot.y_label = count_text;
  plot.legend_title = "network";
  plot.series = {
      {"100 Gb/s",
       {{0, 100, false, "p"}, {1, {}, false, ""}, {2, 300, true, "q"}, {3, 400, false, "r"}}},
      {"none", {{0, {}, false, ""}}}};
  plot.rings = "another layout";
  return plot;
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

TEST(SvgPlot, HoldsAxesLegendPointsAndRings) {
  std::ostringstream out;
  write_svg(out, small_plot());
  const std::string svg = out.str();
  for (const char* part : {"a &lt; b &amp; &quot;c&quot;", ">nodes<", ">tokens/s<", ">network<",
                           ">100 Gb/s<", ">another layout<", "prefers-color-scheme:dark", ">400<"})
    EXPECT_THAT(svg, HasSubstr(part));
  EXPECT_EQ(count(svg, "<title>q</title>"), 1U);
  EXPECT_EQ(count(svg, "class=\"ring\""), 2U);  // one point and the legend
  EXPECT_EQ(count(svg, "<svg"), count(svg, "</svg>"));
  EXPECT_THAT(svg, Not(HasSubstr("<script")));
  // The line is broken where there is no plan: of three points, one stands alone.
  const std::size_t line = svg.find("d=\"M", svg.find("class=\"line\""));
  const std::string path = svg.substr(line, svg.find("/>", line) - line);
  EXPECT_EQ(count(path, "M"), 2U);
  EXPECT_EQ(count(path, "L"), 1U);
}

// The axis begins at 0, so heights are in proportion: 300 lies at three quarters of 400.
TEST(SvgPlot, HeightsAreInProportion) {
  std::ostringstream out;
  write_svg(out, small_plot());
  const std::string svg = out.str();
  const auto height = [&](const std::string& tip) {
    const std::size_t end = svg.find("<title>" + tip + "</title>");
    const std::size_t at = svg.rfind("cy=\"", end) + 4;
    return 48 + 320 - std::stod(svg.substr(at));
  };
  EXPECT_NEAR(height("q") / height("r"), 0.75, 1e-3);
  EXPECT_NEAR(height("p") / height("r"), 0.25, 1e-3);
}

}  // namespace
}  // namespace steploom
