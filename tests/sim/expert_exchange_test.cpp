#include "sim/expert_exchange.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "sim/collective_model.h"

namespace steploom {
namespace {

// Of two experts on each of two places a token chooses two: both on one place in 2 of 6 pairs.
TEST(Visits, ByHand) {
  EXPECT_NEAR(places_visited(2, 4, 2), 2 - 2.0 / 6, 1e-12);
  EXPECT_NEAR(places_visited(4, 256, 1), 1, 1e-12);
  EXPECT_NEAR(places_visited(8, 8, 3), 3, 1e-12);  // an expert a place
  EXPECT_NEAR(places_visited(8, 64, 64), 8, 1e-12);
  EXPECT_NEAR(places_visited(1, 64, 4), 1, 1e-12);
}

// 8 of 256: C(224, 8) / C(256, 8) = 0.33817 miss a given rank of 8.
TEST(Visits, OfDeepSeek) {
  EXPECT_NEAR(visits_of(8, 1, 256, 8, 4).ranks, 8 * (1 - 0.33817), 1e-4);
  EXPECT_NEAR(visits_of(8, 1, 256, 8, 4).nodes, 1, 1e-12);
  // A limit that leaves no node out says nothing; one that does, is reached.
  EXPECT_EQ(visits_of(32, 4, 256, 8, 4).nodes, visits_of(32, 4, 256, 8, 0).nodes);
  EXPECT_EQ(visits_of(64, 8, 256, 8, 4).nodes, 4);
  EXPECT_EQ(visits_of(64, 8, 256, 8, 4).ranks, places_visited(32, 128, 8));
  EXPECT_LT(visits_of(64, 8, 256, 8, 4).ranks, visits_of(64, 8, 256, 8, 0).ranks);
}

// 1000 tokens of 10 kB on three ranks of two nodes: what the busier SM of each pair does.
TEST(ExpertExchanges, SmsByHand) {
  RowsExchanged rows{1000, 1e4, {3, 2}, false};
  const double copy = 1e7 / kCopied, sum = 1e7 / kSummed;
  const double ten_pairs = (1 + 20 / kSharingSms) / 10;
  EXPECT_NEAR(sm_seconds(rows, false, 20) / (3 * copy * ten_pairs), 1, 1e-12);
  EXPECT_NEAR(sm_seconds(rows, true, 20) / ((3 + 2) * copy * ten_pairs), 1, 1e-12);
  rows.sums = true;
  EXPECT_NEAR(sm_seconds(rows, false, 20) / (sum * ten_pairs), 1, 1e-12);
  // Two sums a token for nodes take longer than to send it thrice and sum it once more.
  EXPECT_NEAR(sm_seconds(rows, true, 20) / (2 * sum * ten_pairs), 1, 1e-12);
  rows.visits = {8, 2};
  EXPECT_NEAR(sm_seconds(rows, true, 20) / ((8 * copy + sum) * ten_pairs), 1, 1e-12);
}

// DeepEP's normal kernels: 4096 tokens of 7168 numbers a rank, top 8 of 256 experts on at most four
// nodes, dispatch in fp8 with a factor for 128 numbers, combine in bf16 (aiconfigurator, docs/
// accuracy.md). One node: what the model was fitted to. More: what it was not.
constexpr std::array kSms{4, 8, 12, 16, 20, 24};
struct Measured {
  int nodes;
  bool combine;
  std::array<double, 6> us;  // by SMs
};
constexpr std::array kFitted{Measured{1, false, {2056, 1067, 740, 571, 494, 502}},
                             Measured{1, true, {3916, 2045, 1414, 1083, 996, 979}}};
// The dispatch on eight nodes takes longer than the combine of twice the bytes, with any number of
// SMs: left out.
constexpr std::array kUnseen{Measured{2, false, {3674, 2007, 1725, 1021, 844, 749}},
                             Measured{4, false, {4690, 2502, 1834, 1797, 1801, 1791}},
                             Measured{2, true, {9394, 4867, 3323, 2560, 2099, 1777}},
                             Measured{4, true, {11763, 6078, 4142, 3545, 3528, 3522}},
                             Measured{8, true, {12238, 6368, 4554, 4587, 4461, 4475}}};

class DeepEp : public testing::Test {
 protected:
  double us(int nodes, bool combine, int sms) const {
    const double row = combine ? 7168 * 2 : 7168 * (1 + 4.0 / 128);
    const GroupShape group{8 * nodes, nodes, 8};
    const RowsExchanged rows{4096, row, visits_of(group.ranks, nodes, 256, 8, 4), combine};
    return model_.time(rows, group, sms).seconds * 1e6;
  }
  Cluster cluster_ = load_cluster("h200-sxm-141gb", 16);
  CollectiveModel model_{built_in_profile("h200-sxm-141gb"), cluster_};
};

TEST_F(DeepEp, OneNodeIsFitted) {
  for (const Measured& row : kFitted)
    for (std::size_t i = 0; i < kSms.size(); ++i)
      EXPECT_NEAR(us(1, row.combine, kSms[i]) / row.us[i], 1, kSms[i] <= 16 ? 0.02 : 0.12)
          << (row.combine ? "combine" : "dispatch") << " with " << kSms[i] << " SMs";
}

TEST_F(DeepEp, MoreNodesArePredicted) {
  for (const Measured& row : kUnseen)
    for (std::size_t i = 0; i < kSms.size(); ++i) {
      const double predicted = us(row.nodes, row.combine, kSms[i]);
      const std::string what = std::string(row.combine ? "combine" : "dispatch") + " on " +
                               std::to_string(row.nodes) + " nodes with " +
                               std::to_string(kSms[i]) + " SMs";
      EXPECT_NEAR(predicted / row.us[i], 1, kSms[i] >= 16 ? 0.25 : 0.35) << what;
    }
}

// More nodes never take less, more SMs never more.
TEST_F(DeepEp, GrowsOverNodesAndFallsOverSms) {
  for (const bool combine : {false, true})
    for (int sms = 2; sms <= kMostExchangeSms; sms += 2) {
      double fewer = us(1, combine, sms);
      for (const int nodes : {2, 4, 8, 16}) {
        const double more = us(nodes, combine, sms);
        EXPECT_GT(more, fewer) << nodes << " nodes, " << sms << " SMs";
        EXPECT_LE(more, us(nodes, combine, std::max(2, sms - 2)));
        fewer = more;
      }
    }
}

// SMs enough, the NICs are what is left: 3.61 − 0.90 rows a token leave a rank on four nodes.
TEST_F(DeepEp, ManySmsLeaveTheNics) {
  const double rows = places_visited(4, 256, 8) * 3 / 4;
  const double nic = 4096 * rows * 7168 * 2 / (50e9 * kNicEfficiency) * 1e6;
  EXPECT_NEAR(us(4, true, 32), nic, 40);
}

TEST_F(DeepEp, IsAWorkLikeAnyOther) {
  Work w;
  w.kind = OpKind::all_to_all;
  w.m = 4096;
  w.n = 7168;
  w.k = 8;
  w.groups = 256;
  w.node_limit = 4;
  w.exchange = ExpertExchange::combine;
  const RowsExchanged rows = rows_exchanged(w, {64, 8, 8});
  EXPECT_TRUE(rows.sums);
  EXPECT_EQ(rows.tokens, 4096);
  EXPECT_EQ(rows.row, 7168 * 2);
  EXPECT_EQ(rows.visits.nodes, 4);
  w.exchange = ExpertExchange::dispatch;
  EXPECT_FALSE(rows_exchanged(w, {64, 8, 8}).sums);
}

}  // namespace
}  // namespace steploom
