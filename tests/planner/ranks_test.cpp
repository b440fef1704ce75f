#include "planner/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/planner/planning.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;

const ProcessGroup* group_of(const RankTable& t, int rank, CommGroup role) {
  const std::int32_t g = t.group_of[static_cast<std::size_t>(rank)][static_cast<std::size_t>(role)];
  return g < 0 ? nullptr : &t.groups[static_cast<std::size_t>(g)];
}

// Megatron's order: 16 GPUs, tp 2, pp 2 (dp 4): tp pairs neighbours, dp strides by tp, stages are
// halves (parallel_state.py, initialize_model_parallel's own example). Experts fold over tp·dp:
// etp 1, ep 4 takes four neighbours, the two replicas lie 4 apart.
TEST(Ranks, FollowMegatronsOrder) {
  const World world(small_moe(), 2, 1024, 16);
  const RankTable t =
      rank_table(world.model, world.layout("tp=2,pp=2,ep=4,etp=1,sp=1"), world.cluster);
  EXPECT_THAT(group_of(t, 5, CommGroup::tp)->ranks, ElementsAre(4, 5));
  EXPECT_THAT(group_of(t, 5, CommGroup::dp)->ranks, ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(group_of(t, 5, CommGroup::ep)->ranks, ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(group_of(t, 5, CommGroup::expert_dp)->ranks, ElementsAre(1, 5));
  EXPECT_EQ(group_of(t, 5, CommGroup::etp), nullptr);
  EXPECT_THAT(group_of(t, 5, CommGroup::pp_forward_out)->ranks, ElementsAre(5, 13));
  EXPECT_THAT(group_of(t, 13, CommGroup::pp_forward_in)->ranks, ElementsAre(5, 13));
  EXPECT_THAT(group_of(t, 5, CommGroup::pp_backward_in)->ranks, ElementsAre(13, 5));
  EXPECT_EQ(group_of(t, 5, CommGroup::pp_forward_in), nullptr);
  EXPECT_EQ(t.stage[7], 0);
  EXPECT_EQ(t.stage[8], 1);
}

// Context-parallel ranks lie between tp and dp; a dense parameter has replicas on all of them.
TEST(Ranks, ContextParallelRanksLieBesideTensorParallelOnes) {
  const World world(small_moe(), 2, 1024, 16);
  const RankTable t =
      rank_table(world.model, world.layout("tp=2,cp=2,ep=4,etp=1,sp=1"), world.cluster);
  EXPECT_THAT(group_of(t, 5, CommGroup::tp)->ranks, ElementsAre(4, 5));
  EXPECT_THAT(group_of(t, 5, CommGroup::cp)->ranks, ElementsAre(5, 7));
  EXPECT_THAT(group_of(t, 5, CommGroup::dp)->ranks, ElementsAre(1, 3, 5, 7, 9, 11, 13, 15));
  EXPECT_THAT(group_of(t, 5, CommGroup::ep)->ranks, ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(group_of(t, 5, CommGroup::expert_dp)->ranks, ElementsAre(1, 5, 9, 13));
}

// Two copies of what is sharded: neighbours share one, the same shards of both form a group.
TEST(Ranks, CopiesOfShardsLieSideBySide) {
  const World world(small_moe(), 2, 1024, 16);
  const RankTable t =
      rank_table(world.model, world.layout("tp=2,ep=2,etp=1,sp=1,replicate=2"), world.cluster);
  EXPECT_THAT(group_of(t, 5, CommGroup::dp)->ranks, ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(group_of(t, 5, CommGroup::dp_outer)->ranks, ElementsAre(5, 13));
  EXPECT_THAT(group_of(t, 5, CommGroup::expert_dp)->ranks, ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(group_of(t, 5, CommGroup::expert_dp_outer)->ranks, ElementsAre(5, 13));
  EXPECT_THAT(group_of(t, 9, CommGroup::dp)->ranks, ElementsAre(9, 11, 13, 15));
}

// Every kind of group partitions its ranks.
TEST(Ranks, GroupsOfAKindPartition) {
  const World world(small_moe(), 2, 1024, 16);
  const Layout l = world.layout("tp=2,cp=2,pp=1,ep=2,etp=2,sp=1");
  const RankTable t = rank_table(world.model, l, world.cluster);
  for (const CommGroup kind : {CommGroup::tp, CommGroup::cp, CommGroup::dp, CommGroup::ep,
                               CommGroup::etp, CommGroup::expert_dp, CommGroup::world}) {
    std::multiset<int> ranks;
    for (const ProcessGroup& g : t.groups)
      if (g.kind == kind) ranks.insert(g.ranks.begin(), g.ranks.end());
    EXPECT_EQ(ranks.size(), 16U) << name_of(kind);
    EXPECT_EQ(std::set<int>(ranks.begin(), ranks.end()).size(), 16U) << name_of(kind);
  }
}

TEST(Ranks, ShapesCountNodes) {
  const World world(small_moe(), 2, 1024, 16);
  const RankTable t = rank_table(world.model, world.layout("tp=2,ep=1,etp=1,sp=1"), world.cluster);
  EXPECT_EQ(group_of(t, 0, CommGroup::dp)->shape, (GroupShape{8, 2, 4}));
  EXPECT_EQ(group_of(t, 0, CommGroup::tp)->shape, (GroupShape{2, 1, 2}));
}

}  // namespace
}  // namespace steploom
