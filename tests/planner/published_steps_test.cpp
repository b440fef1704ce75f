// Published step times that nothing was fitted on: Korthikanti et al., arXiv 2205.05198, table 5.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "planner/search.h"
#include "tests/planner/planning.h"

namespace steploom {
namespace {

// Eight A100s a node, sequence 2048, fp16, tensor parallel 8, no distributed optimizer; seconds
// with full recomputation, and with sequence parallelism and selective recomputation.
struct Row {
  const char* model;
  int nodes;
  std::int64_t batch;
  const char* layout;
  double full, selective;
};
constexpr Row kRows[] = {{"megatron-22b", 1, 4, "pp=1,mbs=4", 1.42, 1.10},
                         {"megatron-175b", 8, 64, "pp=8,vpp=3,mbs=1", 18.13, 13.75},
                         {"megatron-530b", 35, 280, "pp=35,vpp=3,mbs=1", 49.05, 37.83},
                         {"megatron-1t", 64, 512, "pp=64,mbs=1", 94.42, 71.49}};

double seconds(World& w, const Row& row, const std::string& how) {
  const Layout l = w.layout(std::string("tp=8,zero=0,") + row.layout + "," + how);
  return static_cast<double>(evaluate(w.setting, l, w.cache).step) * 1e-12;
}

TEST(PublishedSteps, MegatronOf2022IsWithinTenPercentInTheMean) {
  STEPLOOM_SKIP_UNDER_SANITIZERS();
  double sum = 0, worst = 0;
  for (const Row& row : kRows) {
    World w(row.model, row.nodes, 2048, row.batch, "megatron-2022", "a100-sxm-80gb");
    w.work.precision = Precision::fp16;
    const double full = seconds(w, row, "sp=0,recompute=full");
    const double selective = seconds(w, row, "sp=1,recompute=selective");
    for (const double error : {full / row.full - 1, selective / row.selective - 1}) {
      sum += std::abs(error);
      worst = std::max(worst, std::abs(error));
    }
    EXPECT_NEAR(full / selective, row.full / row.selective, 0.05 * row.full / row.selective)
        << row.model;
  }
  EXPECT_LT(sum / 8, 0.10);
  EXPECT_LT(worst, 0.18);
}

}  // namespace
}  // namespace steploom
