// How a budget is spent.
#include "profiler/budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "profiler/profile_of_points.h"

namespace steploom {
namespace {

class Budget : public ::testing::Test {
 protected:
  static std::vector<Ask> asks(const std::string& text) { return parse_asks(text, "test"); }
  MeasuredPoint point(const Ask& ask, double factor) const {
    const double us = static_cast<double>(model_.cost({ask.work, {}}).time) * 1e-6 * factor;
    return {ask, {us, us, us, 9, 0, 0}, "", 0, ""};
  }
  const Profile& profile_ = built_in_profile("h200-sxm-141gb");
  Cluster cluster_ = cluster_for(profile_);
  CostModel model_{profile_, cluster_};
};

const char* kThreeNormsAndProducts =
    "norm forward 8192 4096 0 1 even steploom-rms\n"
    "norm forward 4096 4096 0 1 even steploom-rms\n"
    "norm forward 2048 4096 0 1 even steploom-rms\n"
    "matmul forward 4096 4096 4096 1 even cublaslt\n"
    "matmul forward 4096 4096 8192 1 even cublaslt\n";
const KindPhase kNorm{OpKind::norm, Phase::forward};
const KindPhase kMatmul{OpKind::matmul, Phase::forward};

// share · error · (1/√(n+1) − 1/√(n+2)) over seconds, worked out for n = 0: 1 − 1/√2.
TEST_F(Budget, TheMostGainASecondComesFirst) {
  const auto list = asks(kThreeNormsAndProducts);
  const double norm_seconds = seconds_of(list[0], model_);
  const double matmul_seconds = seconds_of(list[3], model_);
  EXPECT_NEAR(norm_seconds, 0.11, 0.01);
  EXPECT_NEAR(matmul_seconds, 0.26, 0.01);
  // Twice the share times error of a norm is not worth a product's time, three times is.
  const auto first = [&](double matmul_share) {
    return class_of(by_gain(list, {{kNorm, 0.1}, {kMatmul, matmul_share}},
                            {{kNorm, 0.1}, {kMatmul, 0.1}}, {}, model_)[0]);
  };
  EXPECT_EQ(first(0.2), kNorm);
  EXPECT_EQ(first(0.3), kMatmul);
}

TEST_F(Budget, PointsThatAreThereMakeAClassWorthLess) {
  const auto list = asks(kThreeNormsAndProducts);
  const ByClass shares{{kNorm, 0.1}, {kMatmul, 0.3}}, errors{{kNorm, 0.1}, {kMatmul, 0.1}};
  EXPECT_EQ(class_of(by_gain(list, shares, errors, {}, model_)[0]), kMatmul);
  EXPECT_EQ(class_of(by_gain(list, shares, errors, {{kMatmul, 5}}, model_)[0]), kNorm);
}

TEST_F(Budget, OrderIsAPermutationAndDeterministic) {
  const auto list = built_in_asks();
  const ByClass shares{{kNorm, 0.2}, {kMatmul, 0.5}};
  const auto order = by_gain(list, shares, left_out_errors(profile_, list), {}, model_);
  EXPECT_EQ(order, by_gain(list, shares, left_out_errors(profile_, list), {}, model_));
  std::set<std::string> before, after;
  for (const Ask& a : list) before.insert(to_text(a));
  for (const Ask& a : order) after.insert(to_text(a));
  EXPECT_EQ(before, after);
  EXPECT_EQ(order.size(), list.size());
}

TEST_F(Budget, TheCoarsePassSpreadsOverEveryClass) {
  const auto list = built_in_asks();
  std::map<KindPhase, std::vector<double>> us, coarse_us;
  for (const Ask& a : list)
    us[class_of(a)].push_back(static_cast<double>(model_.cost({a.work, {}}).time));
  for (const Ask& a : coarse_asks(list, model_))
    coarse_us[class_of(a)].push_back(static_cast<double>(model_.cost({a.work, {}}).time));
  for (const auto& [c, times] : us) {
    const auto& some = coarse_us[c];
    EXPECT_EQ(some.size(), std::min<std::size_t>(times.size(), kCoarse));
    EXPECT_EQ(*std::min_element(some.begin(), some.end()),
              *std::min_element(times.begin(), times.end()));
    EXPECT_EQ(*std::max_element(some.begin(), some.end()),
              *std::max_element(times.begin(), times.end()));
  }
}

TEST_F(Budget, ErrorsAreThoseLeftOutUntilEnoughIsFound) {
  const auto list = asks(kThreeNormsAndProducts);
  const ByClass left_out = left_out_errors(profile_, list);
  const auto row = [&](const char* what) {
    return std::find_if(profile_.leave_out.begin(), profile_.leave_out.end(),
                        [&](const LeaveOut& l) { return l.what == what; })
        ->median;
  };
  EXPECT_EQ(left_out.at(kMatmul), row("hot card: matmul forward, all"));
  EXPECT_EQ(left_out.at(kNorm), row("hot card: memory, all"));
  std::vector<MeasuredPoint> points{point(list[0], 2), point(list[1], 2), point(list[2], 2)};
  EXPECT_EQ(found_errors(left_out, points, model_), left_out);
  points.push_back(point(list[0], 2));
  EXPECT_NEAR(found_errors(left_out, points, model_).at(kNorm), 0.5, 1e-9);
  EXPECT_EQ(found_errors(left_out, points, model_).at(kMatmul), left_out.at(kMatmul));
  // Attention has a row for every width of heads; together they count as their points do.
  Profile widths = profile_;
  widths.leave_out = {{"hot card: attention forward, head width 64, all", 10, 0.1, 0, 0},
                      {"hot card: attention forward, head width 64, 0.1 ms and more", 9, 0.9, 0, 0},
                      {"hot card: attention forward, head width 192 and 128, all", 30, 0.3, 0, 0}};
  const auto attention = asks("attention forward 4096 1 32 8 128 128 cudnn\n");
  EXPECT_NEAR(left_out_errors(widths, attention).at(class_of(attention[0])), 0.25, 1e-12);
  EXPECT_GT(seconds_of(attention[0], model_), 0.25);  // run as long as a product
  // What no row speaks of is taken to be far off.
  Profile bare = profile_;
  bare.leave_out.clear();
  EXPECT_EQ(left_out_errors(bare, list).at(kNorm), kUnknownError);
}

TEST_F(Budget, KernelTimeIsOfAllRanksAndSlots) {
  Program p;
  BlockTemplate block;
  block.ops.resize(2);
  block.infos.resize(2);
  block.ops[0].duration = 10;
  block.infos[0].work.kind = OpKind::norm;
  block.ops[1].duration = 30;
  block.infos[1].work.kind = OpKind::all_reduce;  // no kernel of ours
  p.blocks = {block};
  p.slots.resize(3);
  Device d;
  d.slot_count = 3;
  d.multiplicity = 4;
  p.devices = {d};
  ByClass time;
  add_kernel_time(p, time);
  EXPECT_EQ(time, (ByClass{{kNorm, 120}}));
  time[kMatmul] = 360;
  EXPECT_EQ(shares_of(time).at(kNorm), 0.25);
}

}  // namespace
}  // namespace steploom
