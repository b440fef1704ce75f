#include "models/parameters.h"

#include <gtest/gtest.h>

#include <string>

#include "models/config_reader.h"

namespace steploom {
namespace {

struct Golden {
  const char* name;
  std::int64_t total;
};

// The counts that the models' authors publish (with the weights' files, tied weights once).
constexpr Golden kGolden[] = {
    {"gpt2", 124'439'808},
    {"gpt2-xl", 1'557'611'200},
    {"llama-2-7b", 6'738'415'616},
    {"llama-2-70b", 68'976'648'192},
    {"llama-3.1-8b", 8'030'261'248},
    {"llama-3.1-70b", 70'553'706'496},
    {"llama-3.1-405b", 405'853'388'800},
    {"mistral-7b", 7'248'023'552},
    {"qwen2-7b", 7'615'616'512},
    {"qwen2.5-72b", 72'706'203'648},
    {"qwen3-8b", 8'190'735'360},
    {"qwen3-32b", 32'762'123'264},
    {"mixtral-8x7b", 46'702'792'704},
    {"mixtral-8x22b", 140'620'634'112},
    // 12·L·h²·(1 + 13/(12·h) + (V + s)/(12·L·h)) (Megatron-LM, arXiv 2104.04473, equation 2) and
    // the final norm: 22.1, 174.6, 529.6 and 1008.0 billion.
    {"megatron-22b", 22'074'273'792},
    {"megatron-175b", 174'615'846'912},
    {"megatron-530b", 529'600'819'200},
    {"megatron-1t", 1'008'038'758'400},
    {"deepseek-v3", 671'026'419'200},  // correction biases included, without the MTP module
};

TEST(Parameters, TotalsEqualThePublishedCounts) {
  for (const Golden& golden : kGolden) {
    EXPECT_EQ(count_parameters(load_model(golden.name)).total, golden.total) << golden.name;
  }
}

TEST(Parameters, EveryShippedModelHasAPublishedCount) {
  EXPECT_EQ(model_names().size(), std::size(kGolden));
}

TEST(Parameters, LayersEmbeddingAndHeadAreTheTotal) {
  for (const std::string& name : model_names()) {
    const ModelSpec m = load_model(name);
    std::int64_t sum = embedding_parameters(m).total() + head_parameters(m).total();
    for (int layer = 0; layer < m.layers; ++layer) sum += layer_parameters(m, layer).total();
    EXPECT_EQ(sum, count_parameters(m).total) << name;
  }
}

// A token meets all but the experts that it is not sent to: 32 · 6 · 3 · 4096 · 14336 of mixtral's,
// 58 · 248 · 3 · 7168 · 2048 of deepseek's.
TEST(Parameters, ActiveOnesLeaveOutTheOtherExperts) {
  const auto mixtral = count_parameters(load_model("mixtral-8x7b"));
  EXPECT_EQ(mixtral.active, mixtral.total - std::int64_t{32} * 6 * 3 * 4096 * 14336);
  EXPECT_NEAR(static_cast<double>(mixtral.active), 12.88e9, 0.005e9);
  const auto deepseek = count_parameters(load_model("deepseek-v3"));
  EXPECT_EQ(deepseek.active, deepseek.total - std::int64_t{58} * 248 * 3 * 7168 * 2048);
  EXPECT_NEAR(static_cast<double>(deepseek.active), 37.6e9, 0.1e9);
  const auto llama = count_parameters(load_model("llama-2-7b"));
  EXPECT_EQ(llama.active, llama.total);
}

// What Megatron-Core cuts over tensor parallelism, on a model small enough to count by hand.
TEST(Parameters, BucketsOfADenseLayerWithBiases) {
  ModelSpec m;
  m.hidden = 8;
  m.layers = 1;
  m.norm_bias = true;
  m.attention.heads = m.attention.kv_heads = 2;
  m.attention.head_dim = m.attention.v_head_dim = 4;
  m.attention.qkv_bias = m.attention.out_bias = true;
  m.dense = {.width = 32, .gated = false, .bias = true};
  m.layer_is_moe = {false};
  const ParameterBuckets p = layer_parameters(m, 0);
  EXPECT_EQ(p.sharded, 3 * 64 + 24 + 64 + 2 * 8 * 32 + 32);  // qkv, its biases, out, FFN, its bias
  EXPECT_EQ(p.replicated, 8 + 8 + 4 * 8);                    // two output biases, two LayerNorms
  EXPECT_EQ(p.experts, 0);
}

TEST(Parameters, BucketsOfALatentMoeLayer) {
  const ModelSpec m = load_model("deepseek-v3");
  const ParameterBuckets attention = attention_parameters(m);
  EXPECT_EQ(attention.replicated, 7168 * 1536 + 1536 + 7168 * (512 + 64) + 512);
  EXPECT_EQ(attention.sharded, 1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168);
  const ParameterBuckets layer = layer_parameters(m, 3);
  EXPECT_EQ(layer.experts, std::int64_t{256} * 3 * 7168 * 2048);
  EXPECT_EQ(layer.sharded - attention.sharded, 3 * 7168 * 2048);  // the shared expert
  EXPECT_EQ(layer.replicated - attention.replicated, 7168 * 256 + 256 + 2 * 7168);
  EXPECT_EQ(layer_parameters(m, 2).experts, 0);
}

TEST(Parameters, ATiedHeadHasOnlyItsNorm) {
  const ModelSpec gpt2 = load_model("gpt2");
  EXPECT_EQ(head_parameters(gpt2).total(), 2 * 768);
  EXPECT_EQ(embedding_parameters(gpt2).sharded, 50257 * 768);
  EXPECT_EQ(embedding_parameters(gpt2).replicated, 1024 * 768);
  EXPECT_EQ(head_parameters(load_model("llama-2-7b")).sharded, 32000 * 4096);
}

TEST(Parameters, VocabularyIsPaddedTo128TimesTp) {
  EXPECT_EQ(padded_vocab(50257, 1), 50304);  // the figure that Megatron prints for GPT-2
  EXPECT_EQ(padded_vocab(50257, 8), 51200);
  EXPECT_EQ(padded_vocab(32000, 1), 32000);
  EXPECT_EQ(padded_vocab(1, 4), 512);
}

}  // namespace
}  // namespace steploom
