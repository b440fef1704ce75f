// How configs are found, named and refused.
#include "models/config_reader.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/families.h"
#include "tests/models/refusal.h"
#include "tests/models/small_configs.h"

namespace steploom {
namespace {

using testing::Contains;
using testing::HasSubstr;

TEST(ConfigReader, FindsTheFamilyByArchitecture) {
  EXPECT_EQ(read(with(kLlama, R"("model_type": "llama",)", "")).family, "llama");
  const std::string kimi =
      with(kDeepseek, R"("model_type": "deepseek_v3")", R"("model_type": "kimi_k2")");
  EXPECT_EQ(read(kimi).family, "deepseek_v3");
}

TEST(ConfigReader, UnknownFamiliesListTheKnownOnes) {
  std::string text = with(kLlama, R"("model_type": "llama")", R"("model_type": "lama")");
  text = with(text, "LlamaForCausalLM", "LamaForCausalLM");
  const auto where = refusal([&] { read(text); });
  EXPECT_EQ(where.place, "/model_type");
  EXPECT_EQ(where.found, "\"lama\"");
  EXPECT_EQ(where.hint, "did you mean 'llama'?");
  for (const Family& family : families()) {
    EXPECT_THAT(where.expected, HasSubstr(std::string(family.model_type)));
  }
  EXPECT_THAT(refusal([] { read("{}"); }).expected, HasSubstr("the key 'model_type'"));
  EXPECT_EQ(refusal([] { read("[]"); }).expected, "an object");
  EXPECT_EQ(refusal([] { read(R"({"model_type": 3})"); }).expected, "a string");
}

struct BadValue {
  const std::string* config;
  std::string old;
  std::string now;
  std::string place;
  std::string expected;
};

TEST(ConfigReader, RefusesImpossibleValues) {
  const BadValue cases[] = {
      {&kLlama, R"("num_hidden_layers": 3)", R"("num_hidden_layers": 0)", "/num_hidden_layers",
       "an integer from 1 to 4096"},
      {&kLlama, R"("hidden_size": 64)", R"("hidden_size": -64)", "/hidden_size",
       "an integer from 1"},
      {&kLlama, R"("vocab_size": 1000)", R"("vocab_size": 9223372036854775808)", "/vocab_size",
       "an integer from 1"},
      {&kLlama, R"("vocab_size": 1000)", R"("vocab_size": 1000.0)", "/vocab_size", "an integer"},
      {&kLlama, R"("hidden_size": 64)", R"("hidden_size": "64")", "/hidden_size", "an integer"},
      {&kLlama, R"("hidden_size": 64)", R"("hidden_size": 4294967296)", "/hidden_size",
       "an integer from 1 to 1048576"},
      {&kLlama, R"("intermediate_size": 160)", R"("intermediate_size": [160])",
       "/intermediate_size", "an integer"},
      {&kLlama, R"("num_attention_heads": 8)", R"("num_attention_heads": 6)",
       "/num_attention_heads", "a divisor of hidden_size 64"},
      {&kLlama, R"("num_key_value_heads": 2)", R"("num_key_value_heads": 3)",
       "/num_key_value_heads", "a divisor of num_attention_heads 8"},
      {&kLlama, R"("num_key_value_heads": 2)", R"("num_key_value_heads": 16)",
       "/num_key_value_heads", "an integer from 1 to 8"},
      {&kLlama, R"("tie_word_embeddings": false)", R"("tie_word_embeddings": 0)",
       "/tie_word_embeddings", "true or false"},
      {&kMixtral, R"("num_experts_per_tok": 2)", R"("num_experts_per_tok": 9)",
       "/num_experts_per_tok", "at most the 8 experts"},
      {&kMixtral, R"("num_local_experts": 8)", R"("num_local_experts": 0)", "/num_local_experts",
       "an integer from 1"},
      {&kDeepseek, R"("n_group": 4)", R"("n_group": 3)", "/n_group", "a divisor of the 16 experts"},
      {&kDeepseek, R"("topk_group": 2)", R"("topk_group": 5)", "/topk_group",
       "an integer from 1 to 4"},
      {&kDeepseek, R"("num_experts_per_tok": 4)", R"("num_experts_per_tok": 9)", "/topk_group",
       "groups that hold at least the 9 experts"},
      {&kDeepseek, R"("first_k_dense_replace": 1)", R"("first_k_dense_replace": 3)",
       "/first_k_dense_replace", "at least one of the 3 layers"},
      {&kDeepseek, R"("attention_bias": false)", R"("attention_bias": true)", "/attention_bias",
       "false for latent attention"},
      {&kDeepseek, R"("moe_intermediate_size": 32)", R"("moe_intermediate_size": 1048576)",
       "/n_shared_experts", "shared experts of at most 1048576 together"},
      {&kGpt2, R"("n_head": 4)", R"("n_head": 5)", "/n_head", "a divisor of n_embd 64"},
      {&kGpt2, R"("n_layer": 2)", R"("n_layer": true)", "/n_layer", "an integer"},
  };
  for (const BadValue& bad : cases) {
    const auto where = refusal([&] { read(with(*bad.config, bad.old, bad.now)); });
    EXPECT_EQ(where.reading, "config.json") << bad.now;
    EXPECT_EQ(where.place, bad.place) << bad.now;
    EXPECT_THAT(where.expected, HasSubstr(bad.expected)) << bad.now;
    EXPECT_FALSE(where.found.empty()) << bad.now;
  }
}

TEST(ConfigReader, RefusesModelsTooLargeToCount) {
  std::string text = with(kMixtral, R"("hidden_size": 64)", R"("hidden_size": 1048576)");
  text = with(text, R"("intermediate_size": 96)", R"("intermediate_size": 1048576)");
  text = with(text, R"("num_local_experts": 8)", R"("num_local_experts": 16384)");
  text = with(text, R"("num_hidden_layers": 2)", R"("num_hidden_layers": 4096)");
  EXPECT_THAT(refusal([&] { read(text); }).expected, HasSubstr("1e+15 parameters"));
}

TEST(ConfigReader, NamesMisspeltShapeKeys) {
  const auto misspelt = [](const std::string& config, const std::string& key,
                           const std::string& wrong) {
    const auto where = refusal([&] { read(with(config, '"' + key + '"', '"' + wrong + '"')); });
    EXPECT_EQ(where.place, "/" + wrong);
    EXPECT_EQ(where.hint, "did you mean '" + key + "'?");
  };
  misspelt(kLlama, "hidden_size", "hidden_sizes");
  misspelt(kLlama, "num_key_value_heads", "num_key_value_head");  // optional, so easily missed
  misspelt(kLlama, "tie_word_embeddings", "tie_words_embeddings");
  misspelt(kMixtral, "num_experts_per_tok", "num_experts_per_token");
  misspelt(kDeepseek, "q_lora_rank", "q_lora_ranks");
  misspelt(kGpt2, "n_layer", "n_layers");
}

TEST(ConfigReader, NamesAMissingKey) {
  EXPECT_EQ(refusal([] { read(with(kLlama, R"("hidden_size": 64, )", "")); }).expected,
            "the key 'hidden_size'");
  EXPECT_EQ(refusal([] { read(with(kMixtral, R"("num_local_experts": 8, )", "")); }).expected,
            "the key 'num_local_experts'");
}

}  // namespace
}  // namespace steploom
