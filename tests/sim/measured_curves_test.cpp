// Curves of collectives that were measured between nodes, and of messages.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "sim/collective_model.h"
#include "sim/cost_model.h"

namespace steploom {
namespace {

constexpr Bytes kSize = 1 << 26;
const GroupShape kTwoNodes{16, 2, 8};
const GroupShape kFourNodes{16, 4, 4};

// Constant octaves: 2^(thousandths / 1000) microseconds at any size up to the last knot.
CollectiveCurve curve(OpKind kind, int ranks, int nodes, int thousandths) {
  CollectiveCurve c{kind, ranks, {{make_axis("bytes", {1024, 1e9})}, {thousandths, thousandths}}};
  c.nodes = nodes;
  return c;
}

class MeasuredCurves : public ::testing::Test {
 protected:
  void add(CollectiveCurve c) {
    const auto after = [&](const CollectiveCurve& other) {
      return std::tuple(other.collective, other.ranks, other.nodes) >
             std::tuple(c.collective, c.ranks, c.nodes);
    };
    profile_.collectives.insert(
        std::find_if(profile_.collectives.begin(), profile_.collectives.end(), after), c);
  }
  double us(OpKind kind, const GroupShape& group, Bytes bytes = kSize) const {
    return 1e6 * CollectiveModel(profile_, cluster_).time(kind, bytes, group).seconds;
  }
  Profile profile_ = built_in_profile("h100-sxm-80gb");
  Cluster cluster_ = load_cluster("h100-sxm-80gb", 8);
};

TEST_F(MeasuredCurves, BetweenNodesTakeTheirTimeOnJustTheirGroup) {
  const double before = us(OpKind::all_reduce, kTwoNodes);
  const double eight = us(OpKind::all_reduce, {8, 1, 8});
  const double other = us(OpKind::all_gather, kTwoNodes);
  add(curve(OpKind::all_reduce, 16, 2, 13000));
  EXPECT_NEAR(us(OpKind::all_reduce, kTwoNodes), std::exp2(13), 1);
  EXPECT_NE(before, us(OpKind::all_reduce, kTwoNodes));
  EXPECT_EQ(us(OpKind::all_reduce, {8, 1, 8}), eight);
  EXPECT_EQ(us(OpKind::all_gather, kTwoNodes), other);
  Work w;
  w.kind = OpKind::all_reduce;
  w.bytes = kSize;
  const CostModel costs(profile_, cluster_);
  EXPECT_EQ(costs.cost({w, kTwoNodes}).provenance, Provenance::fitted);
  EXPECT_EQ(costs.cost({w, kFourNodes}).provenance, Provenance::modelled);
}

// What the planner's bounds rely on: the same ranks over more nodes are never faster.
TEST_F(MeasuredCurves, SpreadingWiderIsNeverFaster) {
  for (const OpKind kind :
       {OpKind::all_reduce, OpKind::all_gather, OpKind::reduce_scatter, OpKind::all_to_all}) {
    add(curve(kind, 16, 2, 17000));  // slower than any model of four nodes
    EXPECT_GE(us(kind, kFourNodes), us(kind, kTwoNodes)) << name_of(kind);
    EXPECT_GE(us(kind, {16, 3, 8}), us(kind, kTwoNodes)) << name_of(kind);
    add(curve(kind, 4, 2, 0));  // 1 us: faster than the four ranks inside a node
    EXPECT_GE(us(kind, {4, 2, 2}), us(kind, {4, 1, 4})) << name_of(kind);
    EXPECT_GE(us(kind, {4, 4, 1}), us(kind, {4, 2, 2})) << name_of(kind);
  }
}

TEST_F(MeasuredCurves, AMessageInANodeTakesItsOwnCurve) {
  const double without = us(OpKind::send_recv, {2, 1, 2});
  add(curve(OpKind::send_recv, 2, 1, 9000));
  EXPECT_NEAR(us(OpKind::send_recv, {2, 1, 2}), 512, 0.1);
  EXPECT_NE(without, us(OpKind::send_recv, {2, 1, 2}));
  EXPECT_GT(us(OpKind::send_recv, {2, 2, 1}), 0);
}

// A user's own curve of just that group wins over the fabric's; the fabric's CTA counts stay in
// their proportions, and only the fabric that the curve was measured over is meant.
TEST_F(MeasuredCurves, AnImportedCurveWinsOverTheFabrics) {
  profile_ = built_in_profile("h200-sxm-141gb");
  cluster_ = load_cluster("h200-sxm-141gb", 2);
  const auto time = [&](int ctas, OpKind kind = OpKind::all_reduce) {
    return CollectiveModel(profile_, cluster_).time(kind, kSize, {2, 1, 2}, ctas);
  };
  const CollectiveTime fastest = time(0), few = time(4);
  ASSERT_EQ(fastest.provenance, Provenance::measured);
  ASSERT_GT(few.seconds, fastest.seconds);
  const double gather = time(0, OpKind::all_gather).seconds;
  CollectiveCurve own = curve(OpKind::all_reduce, 2, 1, 9000);
  std::erase_if(profile_.collectives, [](const CollectiveCurve& c) {
    return c.collective == OpKind::all_reduce && c.ranks == 2 && c.nodes == 1;
  });
  add(own);
  EXPECT_EQ(time(0).seconds, fastest.seconds);  // not imported: the fit of published tables
  std::erase_if(profile_.collectives, [](const CollectiveCurve& c) {
    return c.collective == OpKind::all_reduce && c.ranks == 2 && c.nodes == 1;
  });
  own.source = "nccl-tests 2.19.6";
  add(own);
  EXPECT_NEAR(time(0).seconds * 1e6, 512, 0.1);
  EXPECT_EQ(time(0).provenance, Provenance::fitted);
  EXPECT_EQ(time(0).ctas, fastest.ctas);
  EXPECT_NEAR(time(0).link_seconds / time(0).seconds, fastest.link_seconds / fastest.seconds, 1e-9);
  EXPECT_NEAR(time(4).seconds / time(0).seconds, few.seconds / fastest.seconds, 1e-9);
  EXPECT_EQ(time(0, OpKind::all_gather).seconds, gather);
  use_gpus(cluster_, 2);
  use_fabric(cluster_, "host");
  EXPECT_GT(std::abs(time(0).seconds * 1e6 - 512), 10);
}

TEST_F(MeasuredCurves, AreReadBackWithNodesAndSource) {
  CollectiveCurve c = curve(OpKind::all_to_all, 16, 2, 9000);
  c.source = "nccl-tests \"2.19\"";
  add(c);
  add(curve(OpKind::send_recv, 2, 2, 5000));
  const Profile again = parse_profile(to_json(profile_), "again");
  EXPECT_EQ(to_json(again), to_json(profile_));
  EXPECT_EQ(again.collectives.back().collective, OpKind::send_recv);
  EXPECT_EQ(again.collectives.back().nodes, 2);
  EXPECT_EQ(again.collectives[again.collectives.size() - 2].source, c.source);
}

}  // namespace
}  // namespace steploom
