#include <gtest/gtest.h>

#include "models/error.h"
#include "tests/profiler/executing.h"

namespace steploom {
namespace {

struct Case {
  const char* name;
  ModelSpec (*model)();
  const char* layout;
  int devices;
};

class Layouts : public testing::TestWithParam<Case> {};

// A layout changes where work is done, not what: loss and all gradients are those of one rank that
// does everything with the same routing.
TEST_P(Layouts, LossAndGradientsAreThoseOfOneRank) {
  const Case& c = GetParam();
  const Lowering l(c.model(), c.layout, c.devices);
  BindOptions record, replay;
  record.tape = TapeMode::record;
  replay.tape = TapeMode::replay;
  ReferenceRun run(l.input(), record);
  const StepResult parallel = run.step();
  const Lowering one(c.model(), "tp=1,zero=0", 1);
  ReferenceRun alone(one.input(), replay);
  alone.replay_routing(run.routing());
  const StepResult whole = alone.step();
  EXPECT_NEAR(parallel.loss, whole.loss, 1e-12);
  EXPECT_GT(whole.gradients.size(), 10U);
  EXPECT_LT(difference(whole.gradients, parallel.gradients), 1e-10);
  EXPECT_LT(difference(alone.parameters(), run.parameters()), 1e-7);
  // A second step starts from what the first has made of the parameters.
  const StepResult second = run.step();
  alone.replay_routing(run.routing());
  EXPECT_NEAR(second.loss, alone.step().loss, 1e-7);
  EXPECT_GT(std::abs(second.loss - parallel.loss), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(
    Execution, Layouts,
    testing::Values(
        Case{"dense_tp", tiny_dense, "tp=2,zero=0", 2},
        Case{"dense_tp_sp", tiny_dense, "tp=2,sp=1,zero=0", 2},
        Case{"dense_dp", tiny_dense, "tp=1,zero=0", 2},
        Case{"dense_pp", tiny_dense, "tp=1,pp=2,mbs=2,zero=0", 2},
        Case{"dense_all", tiny_dense, "tp=2,sp=1,pp=2,mbs=1,zero=0", 8},
        Case{"dense_recompute", tiny_dense, "tp=2,sp=1,recompute=full,zero=0", 2},
        Case{"gpt2_tp", tiny_gpt2, "tp=2,zero=0", 2},
        Case{"gpt2_tp_sp", tiny_gpt2, "tp=2,sp=1,zero=0", 2},
        Case{"gpt2_pp", tiny_gpt2, "tp=1,pp=2,mbs=2,zero=0", 2},
        Case{"mixtral_ep", tiny_mixtral, "tp=1,ep=2,zero=0", 2},
        Case{"mixtral_ep_dp", tiny_mixtral, "tp=1,ep=1,zero=0", 2},
        Case{"mixtral_etp", tiny_mixtral, "tp=2,sp=1,etp=2,ep=1,zero=0", 2},
        Case{"mixtral_tp_ep", tiny_mixtral, "tp=2,sp=1,etp=1,ep=2,pp=2,zero=0", 4},
        Case{"dense_zero", tiny_dense, "tp=1,zero=1", 2},
        Case{"dense_zero_tp_sp_pp", tiny_dense, "tp=2,sp=1,pp=2,zero=1", 8},
        Case{"gpt2_zero", tiny_gpt2, "tp=1,zero=1", 2},
        Case{"mixtral_zero_ep", tiny_mixtral, "tp=1,ep=2,zero=1", 4},
        Case{"deepseek_ep", tiny_deepseek, "tp=1,ep=2,mbs=1,zero=0", 2},
        Case{"deepseek_ep_recompute", tiny_deepseek, "tp=1,ep=2,recompute=full,zero=0", 2},
        Case{"mixtral_ep_c2", tiny_mixtral, "tp=1,ep=2,zero=0,chunks=2", 2},
        Case{"mixtral_ep4_c4", tiny_mixtral, "tp=1,ep=4,zero=0,chunks=4", 4},
        Case{"mixtral_etp_c2", tiny_mixtral, "tp=2,sp=1,etp=2,ep=1,zero=0,chunks=2", 2},
        Case{"mixtral_ep_etp_c2", tiny_mixtral, "tp=2,sp=1,etp=2,ep=2,mbs=2,zero=0,chunks=2", 4},
        Case{"mixtral_tp_ep_c2", tiny_mixtral, "tp=2,sp=1,etp=1,ep=2,pp=2,zero=1,chunks=2", 4},
        Case{"deepseek_ep_c3", tiny_deepseek, "tp=1,ep=2,mbs=1,zero=0,chunks=3", 2},
        Case{"deepseek_ep_c3_recompute", tiny_deepseek, "tp=1,ep=4,recompute=full,zero=0,chunks=3",
             4},
        Case{"mixtral_ep_lancet", tiny_mixtral, "tp=1,ep=2,zero=0,dw=lancet", 2},
        Case{"mixtral_zero_ep_solved", tiny_mixtral,
             "tp=1,ep=2,zero=1,dw=solved,bucket=100,grad_micro=400,a2a_first=1", 4},
        Case{"mixtral_tp_ep_c2_solved", tiny_mixtral,
             "tp=2,sp=1,etp=1,ep=2,pp=2,zero=1,chunks=2,dw=solved,grad_micro=300", 8},
        Case{"deepseek_recompute_solved", tiny_deepseek,
             "tp=1,ep=2,recompute=full,zero=0,dw=solved,a2a_first=1,grad_micro=1000", 4},
        Case{"gpt2_zero_parts", tiny_gpt2, "tp=1,zero=1,bucket=500,grad_micro=256", 2},
        Case{"dense_vpp", deep_dense, "tp=1,pp=2,vpp=2,zero=0", 2},
        Case{"dense_vpp_zero", deep_dense, "tp=1,pp=2,vpp=2,zero=1", 4},
        Case{"gpt2_vpp", deep_gpt2, "tp=2,sp=1,pp=2,vpp=2,zero=0", 4},
        Case{"dense_gpipe", tiny_dense, "tp=1,pp=2,mbs=2,zero=0,schedule=gpipe", 2},
        Case{"dense_h1", tiny_dense, "tp=1,pp=2,mbs=2,zero=0,schedule=zb-h1", 2},
        Case{"dense_h2_zero", tiny_dense, "tp=2,sp=1,pp=2,zero=1,schedule=zb-h2", 8},
        Case{"gpt2_h1", tiny_gpt2, "tp=1,pp=2,mbs=2,zero=0,schedule=zb-h1", 2},
        Case{"dense_searched", tiny_dense, "tp=1,pp=2,mbs=2,zero=1,schedule=searched", 4},
        Case{"mixtral_h1", tiny_mixtral, "tp=2,sp=1,etp=1,ep=2,pp=2,zero=0,schedule=zb-h1", 4},
        Case{"deepseek_h1", deep_deepseek,
             "tp=1,ep=2,pp=2,stages=Ett|ttL,recompute=full,zero=1,schedule=zb-h1", 4},
        Case{"deepseek_uneven", deep_deepseek, "tp=1,ep=2,pp=2,vpp=2,stages=E|tt|t|tL,zero=1", 4},
        Case{"dense_groups", deep_dense, "tp=1,recompute=full:uniform:3,zero=0", 1},
        Case{"deepseek_modules", tiny_deepseek,
             "tp=1,recompute=selective:core_attn+layernorm+mlp+moe_act,zero=0", 1},
        Case{"deepseek_moe_again", tiny_deepseek, "tp=1,ep=2,recompute=selective:moe,zero=0", 2}),
    [](const auto& test) { return std::string(test.param.name); });

// Every legal order gives the same bits, and repeats what another run of it gives.
TEST_P(Layouts, EveryLegalOrderGivesTheSameBits) {
  const Case& c = GetParam();
  const Lowering l(c.model(), c.layout, c.devices);
  ReferenceRun issued(l.input());
  const StepResult expected = issued.step();
  const Tensors parameters = issued.parameters();
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    ReferenceRun run(l.input());
    const StepResult got = run.step({.seed = seed});
    EXPECT_EQ(got.loss, expected.loss);
    EXPECT_EQ(got.gradients, expected.gradients);
    EXPECT_EQ(run.parameters(), parameters);
  }
}

TEST(Execution, ChoicesAreDroppedAndKept) {
  BindOptions record;
  record.tape = TapeMode::record;
  const Lowering l(tiny_mixtral(), "tp=1,ep=2,zero=0", 2);
  ReferenceRun run(l.input(), record);
  run.step();
  int dropped = 0, kept = 0;
  for (const auto& [token, words] : run.routing())
    for (const double word : words) ++(word < 0 ? dropped : kept);
  EXPECT_EQ(dropped + kept, 2 * 12 * 8 * 2);  // layers, sequences, tokens, choices
  EXPECT_GT(dropped, 10);
  EXPECT_GT(kept, 100);
}

// Messages between the last and the first rank would wait for the rest of their group.
TEST(Execution, GroupsLargerThanThePipelineAreRefused) {
  const Lowering l(deep_dense(), "tp=1,pp=2,vpp=2,vpp_group=3,zero=0", 2);
  EXPECT_THROW(bind(l.input(), 0), Error);
}

TEST(Execution, ATapeThatDoesNotFitIsRefused) {
  BindOptions replay;
  replay.tape = TapeMode::replay;
  const Lowering l(tiny_mixtral(), "tp=1,zero=0", 1);
  ReferenceRun run(l.input(), replay);
  RoutingTape all_to_one;
  for (int layer = 0; layer < 2; ++layer)
    for (std::int64_t token = 0; token < 12 * 8; ++token) all_to_one[{layer, token}] = {0, 1};
  run.replay_routing(all_to_one);
  EXPECT_THROW(run.step(), Error);
}

}  // namespace
}  // namespace steploom
