#include "models/parameters.h"

#include <gtest/gtest.h>

#include <string>

#include "models/config_reader.h"

namespace steploom {
namespace {

struct Golden {
  const char* name;
  std::int64_t total;
  // Parameters of the experts that a token is not sent to: layers · (experts − top k) · one expert.
  std::int64_t unused = 0;
};

constexpr std::int64_t gated(std::int64_t hidden, std::int64_t width) {
  return 3 * hidden * width;
}
constexpr std::int64_t gated_with_biases(std::int64_t hidden, std::int64_t width) {
  return gated(hidden, width) + 2 * width + hidden;
}

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
    {"opt-125m", 125'239'296},
    {"opt-350m", 331'196'416},
    {"opt-6.7b", 6'658'473'984},
    {"mixtral-8x7b", 46'702'792'704, 32 * 6 * gated(4096, 14336)},
    {"mixtral-8x22b", 140'620'634'112, 56 * 6 * gated(6144, 16384)},
    {"qwen1.5-moe-a2.7b", 14'315'784'192, 24 * 56 * gated(2048, 1408)},
    {"qwen2-57b-a14b", 57'408'658'944, 28 * 56 * gated(3584, 2560)},
    {"qwen3-30b-a3b", 30'532'122'624, 48 * 120 * gated(2048, 768)},
    {"qwen3-235b-a22b", 235'093'634'560, 94 * 120 * gated(4096, 1536)},
    {"deepseek-v2-lite", 15'706'484'224, 26 * 58 * gated(2048, 1408)},
    {"deepseek-v2", 235'741'434'880, 59 * 154 * gated(5120, 1536)},
    // With the correction biases, which are no trained parameters: 671'026'404'352 without.
    {"deepseek-v3", 671'026'419'200, 58 * 248 * gated(7168, 2048)},
    {"deepseek-v3-mtp", 682'636'487'424, 59 * 248 * gated(7168, 2048)},
    {"gpt-oss-20b", 20'914'757'184, 24 * 28 * gated_with_biases(2880, 2880)},
    {"gpt-oss-120b", 116'829'156'672, 36 * 124 * gated_with_biases(2880, 2880)},
    {"llama4-scout", 107'769'861'120, 48 * 15 * gated(5120, 8192)},
    {"llama4-maverick", 400'711'848'960, 24 * 127 * gated(5120, 8192)},
    // 12·L·h²·(1 + 13/(12·h) + (V + s)/(12·L·h)) (Megatron-LM, arXiv 2104.04473, equation 2) and
    // the final norm: 22.1, 174.6, 529.6 and 1008.0 billion.
    {"megatron-22b", 22'074'273'792},
    {"megatron-175b", 174'615'846'912},
    {"megatron-530b", 529'600'819'200},
    {"megatron-1t", 1'008'038'758'400},
};

TEST(Parameters, TotalsEqualThePublishedCounts) {
  for (const Golden& golden : kGolden) {
    const ParameterCount n = count_parameters(load_model(golden.name));
    EXPECT_EQ(n.total, golden.total) << golden.name;
    EXPECT_EQ(n.total - n.active, golden.unused) << golden.name;
  }
}

// What the models are called after, in billions.
TEST(Parameters, ActiveCountsAreThoseInTheNames) {
  const auto active = [](const char* name) {
    return static_cast<double>(count_parameters(load_model(name)).active) * 1e-9;
  };
  EXPECT_NEAR(active("qwen1.5-moe-a2.7b"), 2.7, 0.05);
  EXPECT_NEAR(active("qwen2-57b-a14b"), 14, 0.3);
  EXPECT_NEAR(active("qwen3-30b-a3b"), 3, 0.5);
  EXPECT_NEAR(active("qwen3-235b-a22b"), 22, 0.5);
  EXPECT_NEAR(active("llama4-scout"), 17, 0.5);
  EXPECT_NEAR(active("llama4-maverick"), 17, 0.5);
  EXPECT_NEAR(active("gpt-oss-20b"), 4.2, 0.1);   // model card: 3.6 B without one of the two tables
  EXPECT_NEAR(active("gpt-oss-120b"), 5.7, 0.1);  // 5.1 B likewise
}

// Papers' stacks, whose sizes are partly ours (docs/models.md), counted by hand: LayerNorms and
// biases everywhere, experts of 8·h² + 5·h in every step-th layer, a router without biases; and in
// billions, where the paper says a total.
struct Stack {
  const char* name;
  std::int64_t hidden, layers, vocab, positions, experts, step;
  double published = 0;
};
constexpr Stack kStacks[] = {
    {"gpt2-s-moe", 768, 12, 50257, 1024, 32, 2},
    {"gpt2-l-moe", 1024, 24, 50257, 1024, 32, 2},
    {"lina-gpt2-moe", 768, 12, 50257, 1024, 16, 1},
    {"lina-transformer-xl-moe", 512, 24, 204, 0, 16, 1, 0.838},
    {"lina-bert-large-moe", 1024, 24, 30522, 512, 16, 1},
    {"ppmoe-6.7b", 1024, 24, 50257, 2048, 64, 2, 6.7},
    {"moesys-13.9b", 4096, 12, 50304, 2048, 8, 1, 13.9},
    {"moesys-104b", 4096, 12, 50304, 2048, 64, 1, 104.1},
    {"deepspeed-moe-52b", 2048, 24, 50257, 2048, 128, 2, 52},
};

TEST(Parameters, TotalsOfPapersStacks) {
  for (const Stack& s : kStacks) {
    const std::int64_t h = s.hidden;
    const std::int64_t ffn = 8 * h * h + 5 * h;
    const std::int64_t attention = 4 * h * h + 4 * h + 4 * h;  // and two LayerNorms
    const std::int64_t moe_layers = s.layers / s.step;
    const std::int64_t total = s.layers * attention + (s.layers - moe_layers) * ffn +
                               moe_layers * s.experts * (ffn + h) + (s.vocab + s.positions) * h +
                               2 * h;
    EXPECT_EQ(count_parameters(load_model(s.name)).total, total) << s.name;
    if (s.published > 0) {
      EXPECT_NEAR(static_cast<double>(total) * 1e-9 / s.published, 1, 0.02) << s.name;
    }
  }
}

TEST(Parameters, EveryShippedModelIsCounted) {
  EXPECT_EQ(model_names().size(), std::size(kGolden) + std::size(kStacks));
}

TEST(Parameters, LayersEmbeddingAndHeadAreTheTotal) {
  for (const std::string& name : model_names()) {
    const ModelSpec m = load_model(name);
    std::int64_t sum = embedding_parameters(m).total() + head_parameters(m).total();
    for (int layer = 0; layer < m.layers; ++layer) sum += layer_parameters(m, layer).total();
    for (int i = 1; i <= m.mtp_modules; ++i) sum += layer_parameters(m, m.layers + i).total();
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
