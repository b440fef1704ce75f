#include "profiler/fit_uneven.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "models/error.h"
#include "profiler/fit_grouped.h"
#include "sim/expert_loads.h"

namespace steploom {
namespace {

const char* const kHeader = "gpu,tokens,hidden,expert_ffn,top_k,experts,tp,ep,routing,us\n";

// A GPU without a correction: every product takes its base and launch.
Profile toy() {
  Profile p;
  p.device = {"toy", 100, 1e15, 3e12};
  p.grouped_matmul.launch_us = 5;
  for (const char* axis : {"tokens", "n", "k", "experts"})
    p.grouped_matmul.grid.axes.push_back(make_axis(axis, {1}));
  p.grouped_matmul.grid.values = {0};
  return p;
}

// With one expert a rank no rows are spread: a layer is its slowest rank's two products.
double truth_us(const Profile& p, double tokens, int experts, double octaves) {
  const double rows = slowest_rank_rows(2 * tokens, tokens, experts, experts, 1.2);
  const ExpertLayer layer =
      expert_layer(p.device, tokens, 4096, 1024, rows * experts / tokens, experts, 1, experts);
  return layer.moving_us + (layer_us(p, layer) - layer.moving_us) * std::exp2(octaves);
}

std::string rows(const Profile& p, double octaves, double slower = 1) {
  std::string text = kHeader;
  for (const int experts : {2, 4, 8, 16})
    for (int tokens = 256; tokens <= 16384; tokens += 256) {
      const std::string shape = "toy," + std::to_string(tokens) + ",4096,1024,2," +
                                std::to_string(experts) + ",1," + std::to_string(experts) + ",";
      text += shape + "power_law_1.2," +
              std::to_string(slower * truth_us(p, tokens, experts, octaves)) + "\n";
    }
  return text;
}

TEST(FitUneven, FindsTheOctavesOfTheFittedHalfAndScoresTheOther) {
  const Profile p = toy();
  const UnevenFit fit = fit_uneven(p, parse_table(rows(p, 0.3), "toy.csv"));
  EXPECT_NEAR(fit.octaves, 0.3, 1e-3);
  EXPECT_GT(fit.kept.points, 80);  // of 256
  EXPECT_LT(fit.kept.points, 176);
  // Predicted with kUnevenOctaves, whatever this table says.
  const UnevenFit right = fit_uneven(p, parse_table(rows(p, kUnevenOctaves), "toy.csv"));
  EXPECT_LT(right.kept.worst, 1e-3);
  EXPECT_GT(fit.kept.median, 0.05);
}

// The halves depend on what was asked and not on its time, nor on its place in the table.
TEST(FitUneven, TheHalvesAreFixed) {
  const Profile p = toy();
  const std::string text = rows(p, 0.1);
  const UnevenFit once = fit_uneven(p, parse_table(text, "toy.csv"));
  const UnevenFit slower = fit_uneven(p, parse_table(rows(p, 0.1, 1.5), "toy.csv"));
  EXPECT_EQ(once.kept.points, slower.kept.points);
}

TEST(FitUneven, SlowShapesAreScoredApart) {
  const Profile p = toy();
  std::string text = rows(p, kUnevenOctaves);
  text += "toy,1024,4096,1024,2,8,1,8,balanced,100000\n";  // beyond twice its base
  const UnevenFit fit = fit_uneven(p, parse_table(text, "toy.csv"));
  EXPECT_LT(fit.kept.points, fit.fell_back.points);
}

TEST(FitUneven, RefusesATableWithoutSuchRows) {
  const std::string text = std::string(kHeader) + "toy,1024,4096,1024,2,8,1,8,balanced,100\n";
  EXPECT_THROW(fit_uneven(toy(), parse_table(text, "toy.csv")), Error);
}

}  // namespace
}  // namespace steploom
