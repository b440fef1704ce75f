// Steps of a group-wise exchange: who sends how many messages, and how long they take, by hand.
#include "sim/group_step.h"

#include <gtest/gtest.h>

#include "sim/collective_model.h"
#include "sim/cost_model.h"

namespace steploom {
namespace {

constexpr GroupShape kTwoNodes{8, 2, 4};

StepMessages of(int step, int steps, const GroupShape& group = kTwoNodes) {
  return messages_of({step, steps, 1024}, group);
}

// Groups that are nodes: first everyone to the three neighbours, then to the other node's four.
TEST(GroupStep, GroupsOfANode) {
  EXPECT_EQ(of(0, 2).inside, 3);
  EXPECT_EQ(of(0, 2).leaving, 0);
  EXPECT_EQ(of(1, 2).inside, 0);
  EXPECT_EQ(of(1, 2).outside, 4);
  EXPECT_EQ(of(1, 2).leaving, 16);
}

// One rank a group: in step 1 ranks 3 and 7 alone send to the other node, in step 4 all do.
TEST(GroupStep, SingleRanks) {
  EXPECT_EQ(of(0, 8).inside + of(0, 8).outside, 0);
  EXPECT_EQ(of(1, 8).inside, 1);
  EXPECT_EQ(of(1, 8).outside, 1);
  EXPECT_EQ(of(1, 8).leaving, 1);
  EXPECT_EQ(of(4, 8).inside, 0);
  EXPECT_EQ(of(4, 8).leaving, 4);
}

// Whatever the groups, all steps together send each rank's message to each rank of the other nodes.
TEST(GroupStep, AllStepsAreAnAllToAll) {
  for (const int steps : {1, 2, 4, 8}) {
    int leaving = 0;
    for (int i = 0; i < steps; ++i) leaving += of(i, steps).leaving;
    EXPECT_EQ(leaving, 4 * 4) << steps;
  }
}

class StepTimes : public testing::Test {
 protected:
  StepTimes() { cluster_.devices_per_node = cluster_.nics_per_node = 4; }

  Cluster cluster_ = load_cluster("h100-sxm-80gb", 2);
};

// 256 MiB from each of a node's four ranks over its own 50 GB/s NIC at 92 %, by NCCL's Simple: 8.4
// us a call, 14 - 2.5 + 2.5 us a hop, and half a microsecond a message to four peers.
TEST_F(StepTimes, BetweenNodesByHand) {
  const Profile profile = built_in_profile("h100-sxm-80gb");
  const CollectiveModel model(profile, cluster_);
  constexpr Bytes kBytes = Bytes{256} << 20;
  const CollectiveTime time = model.time(GroupStep{1, 2, kBytes}, kTwoNodes);
  EXPECT_NEAR(time.seconds, 8.4e-6 + 14e-6 + 4 * 0.5e-6 + kBytes / 46e9, 1e-12);
  EXPECT_NEAR(time.link_seconds, kBytes / 50e9, 1e-12);
}

// One rank of the node crosses. With a NIC of its own it takes as long as when all do, but for what
// the calls take; with one that the four share it has that alone.
TEST_F(StepTimes, ARankThatCrossesAlone) {
  const Profile profile = built_in_profile("h100-sxm-80gb");
  constexpr Bytes kBytes = Bytes{256} << 20;
  const double fixed = 8.4e-6 + 14e-6 + 0.5e-6;
  const CollectiveModel own(profile, cluster_);
  EXPECT_NEAR(own.time(GroupStep{1, 8, kBytes}, kTwoNodes).seconds, fixed + kBytes / 46e9, 1e-12);
  EXPECT_NEAR(own.time(GroupStep{4, 8, kBytes}, kTwoNodes).seconds, fixed + kBytes / 46e9, 1e-12);
  cluster_.nics_per_node = 1;
  const CollectiveModel shared(profile, cluster_);
  EXPECT_NEAR(shared.time(GroupStep{1, 8, kBytes}, kTwoNodes).seconds, fixed + kBytes / 46e9,
              1e-12);
  EXPECT_NEAR(shared.time(GroupStep{4, 8, kBytes}, kTwoNodes).seconds, fixed + 4 * kBytes / 46e9,
              1e-12);
}

// Inside a node: as an all-to-all with those it sends to, and the steps of single ranks together no
// faster than the whole.
TEST_F(StepTimes, InsideANode) {
  const Profile profile = built_in_profile("h100-sxm-80gb");
  const CollectiveModel model(profile, load_cluster("h100-sxm-80gb", 1));
  const GroupShape node{8, 1, 8};
  constexpr Bytes kBytes = Bytes{16} << 20;  // of a step; a message is an eighth of all steps'
  EXPECT_GE(model.time(GroupStep{1, 2, kBytes}, node).seconds,
            model.time(OpKind::all_to_all, kBytes / 4 * 5, {5, 1, 5}).seconds);
  const double whole = model.time(OpKind::all_to_all, 8 * kBytes, node).seconds;
  double sum = 0;
  for (int i = 0; i < 8; ++i) sum += model.time(GroupStep{i, 8, kBytes}, node).seconds;
  EXPECT_GE(sum, whole * (1 - 1e-9));
}

// A rank's own rows are a copy on the device, read and written once.
TEST_F(StepTimes, OwnRowsAreCopied) {
  const Profile profile = built_in_profile("h100-sxm-80gb");
  const CostModel costs(profile, cluster_);
  Work step;
  step.kind = OpKind::all_to_all;
  step.exchange = ExpertExchange::step;
  step.bytes = Bytes{64} << 20;
  step.groups = 8;
  const Cost cost = costs.cost({step, kTwoNodes});
  EXPECT_GT(cost.time, 0);
  EXPECT_EQ(cost.link_share, 0);
  const double bandwidth = profile.memory.bandwidth_factor * profile.device.memory_bandwidth;
  const double seconds =
      2 * static_cast<double>(step.bytes) / bandwidth + profile.memory.latency_us * 1e-6;
  EXPECT_NEAR(static_cast<double>(cost.time), seconds * 1e12, 1);
}

}  // namespace
}  // namespace steploom
