#include "models/layout_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "models/config_reader.h"

namespace steploom {
namespace {

// A model, workload and layout that keep every rule; each test changes the least that breaks one.
struct Case {
  ModelSpec model;
  Workload workload;
  Layout layout;
  int devices = 64;

  std::vector<std::string_view> broken() const {
    std::vector<std::string_view> names;
    for (const LayoutRule& rule : layout_rules()) {
      if (rule.broken({model, workload, layout, devices})) names.push_back(rule.name);
    }
    return names;
  }
};

Case with_experts() {  // deepseek-v3 has every part that a rule speaks of; 64 layers for pp=4
  Case c{load_model("deepseek-v3"), {}, {}};
  c.model.layers = 64;
  c.model.layer_is_moe.resize(64, true);
  c.layout = {.tp = 4, .pp = 4, .ep = 8, .etp = 2, .dp = 4, .zero = 1, .sp = true};
  return c;
}

Case dense() {
  Case c{load_model("llama-3.1-8b"), {}, {}};
  c.layout = {.tp = 4, .pp = 4, .dp = 4};
  return c;
}

// Exactly this rule is broken, and refuse() says so with a message.
void expect_only(const Case& c, std::string_view rule) {
  EXPECT_THAT(c.broken(), testing::ElementsAre(rule));
  const auto refusal = refuse({c.model, c.workload, c.layout, c.devices});
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->rule, rule);
  EXPECT_FALSE(refusal->message.empty());
}

void expect_kept(const Case& c) {
  EXPECT_THAT(c.broken(), testing::IsEmpty());
  EXPECT_FALSE(refuse({c.model, c.workload, c.layout, c.devices}).has_value());
}

TEST(LayoutRules, NamesAreUniqueAndEachHasASource) {
  std::set<std::string_view> names;
  for (const LayoutRule& rule : layout_rules()) {
    EXPECT_TRUE(names.insert(rule.name).second) << rule.name;
    EXPECT_FALSE(rule.source.empty()) << rule.name;
    EXPECT_NE(rule.broken, nullptr) << rule.name;
  }
}

TEST(LayoutRules, TheStartingPointsKeepEveryRule) {
  expect_kept(with_experts());
  expect_kept(dense());
}

TEST(LayoutRules, MeshDividesDevices) {
  Case c = dense();
  c.devices = 72;
  expect_only(c, "tp·cp·pp divides devices");
  c.devices = 32;  // divides, but dp was made for 64
  expect_only(c, "tp·cp·pp divides devices");
  c.layout.dp = 2;
  expect_kept(c);
}

TEST(LayoutRules, ExpertParallelismNeedsExperts) {
  Case c = dense();
  c.layout.ep = 2;
  expect_only(c, "ep needs experts");
  c = with_experts();
  c.layout.ep = 2;
  expect_kept(c);
}

TEST(LayoutRules, ChunksNeedAnExchange) {
  Case c = dense();
  c.layout.chunks = 2;
  expect_only(c, "chunks need an exchange");
  c = with_experts();
  c.workload.seq_length = 4096;  // 1024 tokens of a rank, 8 choices each: 32 rows for an expert
  c.layout.chunks = 8;
  expect_kept(c);
  c.layout.ep = c.layout.etp = 1;
  expect_only(c, "chunks need an exchange");
}

TEST(LayoutRules, ChunksDivideTheRowsOfAnExpert) {
  Case c = with_experts();
  c.workload.seq_length = 4096;
  c.layout.chunks = 3;
  expect_only(c, "chunks divide the rows of an expert");
  EXPECT_THAT(refuse({c.model, c.workload, c.layout, c.devices})->message,
              testing::HasSubstr("chunks=3 does not divide 32 rows of a rank for an expert"));
  c.workload.seq_length = 4096 - 16;  // 8160 rows for 256 experts
  c.layout.chunks = 2;
  expect_only(c, "chunks divide the rows of an expert");
}

TEST(LayoutRules, GradientsAreMovedWhereThereAreSome) {
  Case c = with_experts();
  c.layout.dw = WeightPlacement::solved;
  c.layout.a2a_first = true;
  c.layout.grad_micro = 30'000'000;
  c.layout.zero = 1;
  expect_kept(c);
  c.layout.zero = 2;
  c.layout.pp = 1;
  EXPECT_THAT(refuse({c.model, c.workload, c.layout, c.devices})->message, testing::Not(""));
  c = dense();
  c.layout.dw = WeightPlacement::lancet;
  expect_only(c, "dw needs an all-to-all");
  c.layout.dw = WeightPlacement::none;
  c.layout.a2a_first = true;
  expect_only(c, "a2a_first needs an all-to-all");
}

TEST(LayoutRules, ContextParallelism) {
  Case c = dense();  // 4096 tokens, 32 heads, 8 of keys and values, tp 4
  c.layout.cp = 2;
  c.layout.dp = 2;
  expect_kept(c);
  c.layout.cp_comm = ContextComm::a2a;
  expect_kept(c);
  c.layout.cp = 4;
  c.layout.dp = 1;
  expect_only(c, "tp·cp divides heads for a2a");
  c.layout.cp_comm = ContextComm::allgather;
  expect_kept(c);
  c.workload.seq_length = 4100;
  expect_only(c, "2·cp divides sequence");
  c = dense();
  c.layout.cp_comm = ContextComm::a2a;
  expect_only(c, "cp_comm needs cp");
  c = dense();
  c.layout.cp = 2;
  c.layout.dp = 2;
  c.model.attention.window = 128;
  expect_only(c, "windows need allgather or a2a");
  c = with_experts();
  c.layout.cp = 2;
  c.layout.dp = 2;
  expect_kept(c);
  c.layout.cp_comm = ContextComm::allgather;
  expect_only(c, "latent attention needs p2p");
}

TEST(LayoutRules, ContextParallelismNeedsARuntimeThatHasIt) {
  Case c = dense();
  c.layout.cp = 2;
  c.layout.dp = 2;
  for (const Runtime& runtime : built_in_runtimes()) {
    const auto refusal = refuse({c.model, c.workload, c.layout, c.devices, &runtime});
    EXPECT_EQ(refusal.has_value(), runtime.name != "megatron-core") << runtime.name;
    if (refusal) {
      EXPECT_EQ(refusal->rule, runtime.tensor_parallel ? "cp needs a runtime that has it"
                                                       : "tp needs a runtime that has it");
    }
  }
}

// What the rules of the mesh refuse, refuse() refuses by the same name.
TEST(LayoutRules, RulesOfTheMeshComeFirst) {
  bool mesh = true;
  for (const LayoutRule& rule : layout_rules()) {
    EXPECT_TRUE(mesh || !rule.of_mesh) << rule.name;
    mesh = rule.of_mesh;
  }
  Case c = with_experts();
  c.layout.sp = false;
  c.layout.micro_batch = 7;
  EXPECT_EQ(refuse_mesh({c.model, c.workload, c.layout, c.devices})->rule,
            refuse({c.model, c.workload, c.layout, c.devices})->rule);
}

TEST(LayoutRules, CopiesOfShards) {
  Case c = dense();  // dp 4
  c.layout.replicate = 2;
  expect_kept(c);
  c.layout.zero = 0;
  expect_only(c, "replicate needs zero");
  c.layout.zero = 1;
  for (const int copies : {3, 4, 8}) {
    c.layout.replicate = copies;
    expect_only(c, "replicate divides replicas");
  }
  c = with_experts();  // dp 4, an expert on one rank alone
  c.layout.replicate = 2;
  expect_only(c, "replicate divides replicas");
  c = dense();
  c.layout.replicate = 2;
  EXPECT_EQ(refuse({c.model, c.workload, c.layout, c.devices, &runtime_named("steploom")})->rule,
            "replicate needs a runtime that has it");
}

TEST(LayoutRules, ExpertTensorParallelismNeedsExperts) {
  Case c = dense();
  c.layout.etp = 2;
  expect_only(c, "etp needs experts");
  c = with_experts();
  c.layout.etp = 4;
  c.layout.ep = 4;
  expect_kept(c);
}

TEST(LayoutRules, ExpertMeshDividesDevices) {
  Case c = with_experts();
  c.layout.ep = 16;  // 2 · 16 · 4 = 128
  expect_only(c, "etp·ep·pp divides devices");
  c.layout.etp = 1;
  expect_kept(c);
}

TEST(LayoutRules, ExpertParallelismDividesExperts) {
  Case c = with_experts();
  c.model.moe->experts = 12;
  expect_only(c, "ep divides experts");
  c.layout.ep = 4;
  expect_kept(c);
}

TEST(LayoutRules, TensorParallelismDividesHeads) {
  Case c = dense();
  c.model.attention.heads = 30;  // kept apart from its 8 key-value heads
  expect_only(c, "tp divides heads");
  c.model.attention.heads = 28;
  expect_kept(c);
}

TEST(LayoutRules, TensorParallelismDividesKeyValueHeads) {
  Case c = dense();
  c.layout.tp = 16;
  c.layout.dp = 1;
  expect_only(c, "tp divides key-value heads");
  c.model.attention.kv_heads = 16;
  expect_kept(c);
}

TEST(LayoutRules, TensorParallelismDividesFeedForwardWidth) {
  Case c = dense();
  c.model.dense.width = 14334;
  expect_only(c, "tp divides feed-forward width");
  c = with_experts();
  c.model.dense.width = 18431;
  expect_only(c, "tp divides feed-forward width");
  c.model.layer_is_moe.assign(64, true);  // then no layer has that width
  expect_kept(c);
}

TEST(LayoutRules, TensorParallelismDividesSharedExpertWidth) {
  Case c = with_experts();
  c.model.moe->shared_width = 2050;
  expect_only(c, "tp divides shared expert width");
  c.model.moe->shared_width = 0;
  expect_kept(c);
}

TEST(LayoutRules, TensorParallelismDividesAPredictionModulesWidth) {
  Case c = with_experts();
  c.model.hidden = 7170;
  expect_kept(c);
  c.model.mtp_modules = 1;
  expect_only(c, "tp divides prediction width");
}

TEST(LayoutRules, ExpertTensorParallelismDividesExpertWidth) {
  Case c = with_experts();
  c.model.moe->expert.width = 2047;
  expect_only(c, "etp divides expert width");
  c.layout.etp = 1;
  expect_kept(c);
}

TEST(LayoutRules, ExpertBiasesNeedWholeExperts) {
  Case c = with_experts();
  c.model.moe->expert.bias = true;
  expect_only(c, "expert biases need etp 1");
  c.layout.etp = 1;
  expect_kept(c);
}

TEST(LayoutRules, SequenceParallelismNeedsTensorParallelism) {
  Case c = with_experts();
  c.layout.tp = 1;
  c.layout.dp = 16;
  expect_only(c, "sp needs tp");
  c.layout.sp = false;
  expect_kept(c);
}

TEST(LayoutRules, ExpertsWithTensorParallelismNeedSequenceParallelism) {
  Case c = with_experts();
  c.layout.sp = false;
  expect_only(c, "experts with tp need sp");
  c.layout.ep = 1;  // Megatron's MoE layer asks for it whatever ep is
  expect_only(c, "experts with tp need sp");
  expect_kept(dense());  // tp=4 without sp
}

TEST(LayoutRules, TensorParallelismDividesTheSequence) {
  Case c = with_experts();
  c.workload.seq_length = 4098;
  expect_only(c, "tp divides sequence");
  c = dense();
  c.workload.seq_length = 4098;  // no sequence parallelism: not cut
  expect_kept(c);
}

TEST(LayoutRules, PipelineDividesLayers) {
  Case c = dense();
  c.model.layers = 30;
  expect_only(c, "pp divides layers");
  c.model.layers = 28;
  expect_kept(c);
}

TEST(LayoutRules, StagesHoldAllLayers) {
  Case c = dense();
  c.model.layers = 30;
  c.model.layer_is_moe.assign(30, false);
  c.layout.stages = {8, 8, 8, 6};
  expect_kept(c);
  c.layout.stages = {8, 8, 8, 8};
  expect_only(c, "stages hold the layers");
  c.layout.stages = {15, 15};
  expect_only(c, "stages hold the layers");
}

// schedules.py: the number of contiguous micro-batches is from pp to all of them, and what is left
// of the last group is nothing or at least pp.
TEST(LayoutRules, MicroBatchesFillTheVirtualPipeline) {
  Case c = dense();
  c.layout.vpp = 2;
  c.workload.global_batch = 8 * c.layout.dp;
  expect_kept(c);
  c.workload.global_batch = 10 * c.layout.dp;
  expect_only(c, "micro-batches fill the virtual pipeline");
  c.layout.vpp_group = 6;  // 6 + 4
  expect_kept(c);
  c.layout.vpp_group = 8;  // 8 + 2
  expect_only(c, "micro-batches fill the virtual pipeline");
  c.layout.vpp_group = 3;
  expect_only(c, "micro-batches fill the virtual pipeline");
  c.layout.vpp_group = 11;
  expect_only(c, "micro-batches fill the virtual pipeline");
  c = dense();
  c.layout.vpp_group = 4;
  expect_only(c, "vpp needs pp");
}

TEST(LayoutRules, MicroBatchesDivideTheGlobalBatch) {
  Case c = dense();
  c.layout.micro_batch = 3;
  expect_only(c, "mbs·dp divides global batch");
  c.workload.global_batch = 12;
  expect_kept(c);
  c.workload.global_batch = 6;  // less than one micro-batch for each
  expect_only(c, "mbs·dp divides global batch");
}

TEST(LayoutRules, LearnedPositionsCoverTheSequence) {
  Case c{load_model("gpt2"), {}, {}};
  c.layout = {.tp = 4, .pp = 4, .dp = 4};
  expect_only(c, "learned positions cover sequence");
  c.workload.seq_length = 1024;
  expect_kept(c);
  c = dense();
  c.workload.seq_length = std::int64_t{1} << 20;  // rotary: no table
  expect_kept(c);
}

TEST(LayoutRules, ZeroStagesAboveOneAreNotPlanned) {
  Case c = dense();
  c.layout.pp = 1;
  c.layout.dp *= 4;
  for (const int zero : {2, 3}) {
    c.layout.zero = zero;
    expect_kept(c);
    const Runtime& own = runtime_named("steploom");
    EXPECT_EQ(refuse({c.model, c.workload, c.layout, c.devices, &own})->rule,
              "zero needs a runtime that has it");
  }
  c.layout.reshard = false;
  expect_kept(c);
  c.layout.zero = 2;
  expect_only(c, "reshard needs zero 3");
  c.layout.reshard = true;
  c.layout.pp = 4;
  c.layout.dp /= 4;
  expect_only(c, "zero 2 and 3 need pp 1");
  c.layout.zero = 0;
  expect_kept(c);
  // FSDP2 under torch.distributed.pipelining; Megatron-Core and DeepSpeed refuse it.
  c.layout.zero = 3;
  expect_kept(c);
  c.workload.precision = Precision::bf16;
  for (const char* name : {"megatron-core", "deepspeed"}) {
    const auto refusal = refuse({c.model, c.workload, c.layout, c.devices, &runtime_named(name)});
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->rule, "zero 2 and 3 need pp 1") << name;
    EXPECT_NE(refusal->message.find(name), std::string::npos);
  }
  c.layout.tp = 1;
  c.layout.sp = false;
  c.layout.dp = c.devices / c.layout.pp;
  EXPECT_FALSE(refuse({c.model, c.workload, c.layout, c.devices, &runtime_named("torch-eager")}));
}

TEST(LayoutRules, MessagesSayWhatWouldSatisfyThem) {
  Case c = dense();
  c.layout.tp = 16;
  c.layout.dp = 1;
  const auto refusal = refuse({c.model, c.workload, c.layout, c.devices});
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->message, "tp=16 does not divide 8 key-value heads; tp may be 1, 2, 4, 8");
}

TEST(LayoutRules, UsualLayoutsPass) {
  Case mixtral{load_model("mixtral-8x22b"), {}, {}, 128};
  mixtral.layout = {.tp = 2, .pp = 8, .ep = 8, .etp = 1, .dp = 8, .sp = true};
  expect_kept(mixtral);
  Case llama{load_model("llama-3.1-70b"), {}, {}, 64};
  llama.layout = {.tp = 4, .pp = 4, .dp = 4, .sp = true};
  expect_kept(llama);
  Case deepseek{load_model("deepseek-v3"), {}, {}, 64};
  deepseek.layout = {.ep = 64, .dp = 64};
  expect_kept(deepseek);
  deepseek.layout = {.pp = 4, .ep = 16, .dp = 16};  // 61 layers are prime
  expect_only(deepseek, "pp divides layers");
}

TEST(LayoutRules, CtasArePowersOfTwoUpTo32) {
  Case c = dense();
  for (const int ctas : {1, 8, 32}) {
    c.layout.ctas.fill(ctas);
    expect_kept(c);
  }
  for (const int ctas : {3, 31, 64}) {
    c = dense();
    c.layout.ctas[static_cast<std::size_t>(CommGroup::dp)] = ctas;
    expect_only(c, "ctas is a power of two up to 32");
  }
}

}  // namespace
}  // namespace steploom
