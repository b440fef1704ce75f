// What each family makes of its config.
#include "models/families.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/config_reader.h"
#include "models/parameters.h"
#include "tests/models/refusal.h"
#include "tests/models/small_configs.h"

namespace steploom {
namespace {

using testing::Contains;
using testing::HasSubstr;

TEST(ConfigReader, ReadsALlamaWithAllItsHubKeys) {
  const ModelSpec m = read(kLlama);
  EXPECT_EQ(m.name, "test");
  EXPECT_EQ(m.family, "llama");
  EXPECT_EQ(m.hidden, 64);
  EXPECT_EQ(m.layers, 3);
  EXPECT_EQ(m.vocab, 1000);
  EXPECT_EQ(m.max_positions, 512);
  EXPECT_FALSE(m.tied_embeddings);
  EXPECT_EQ(m.attention.heads, 8);
  EXPECT_EQ(m.attention.kv_heads, 2);
  EXPECT_EQ(m.attention.head_dim, 8);
  EXPECT_EQ(m.attention.v_head_dim, 8);
  EXPECT_TRUE(m.attention.rotary);
  EXPECT_FALSE(m.attention.qkv_bias);
  EXPECT_EQ(m.dense.width, 160);
  EXPECT_TRUE(m.dense.gated);
  EXPECT_FALSE(m.has_moe());
  EXPECT_EQ(m.layer_is_moe, std::vector<bool>({false, false, false}));
}

TEST(ConfigReader, ReadsTheKeysOfTransformers5) {
  std::string five = with(kLlama, R"("rope_scaling": {"factor": 8.0, "rope_type": "llama3"},)", "");
  five = with(five, R"("rope_theta": 500000.0)",
              R"("rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3"})");
  five = with(five, "torch_dtype", "dtype");
  EXPECT_EQ(count_parameters(read(five)).total, count_parameters(read(kLlama)).total);
}

TEST(ConfigReader, NullHeadKeysTakeTheirDefaults) {
  const std::string text = with(kLlama, R"("num_key_value_heads": 2)",
                                R"("num_key_value_heads": null, "head_dim": null)");
  EXPECT_EQ(read(text).attention.kv_heads, 8);
  EXPECT_EQ(read(text).attention.head_dim, 8);
}

TEST(ConfigReader, AGivenHeadDimNeedsNoDivision) {
  const std::string text =
      with(kLlama, R"("hidden_size": 64)", R"("hidden_size": 60, "head_dim": 16)");
  EXPECT_EQ(read(text).attention.head_dim, 16);
}

TEST(ConfigReader, BiasesStandWhereTheFamilyPutsThem) {
  const ModelSpec llama =
      read(with(kLlama, R"("attention_bias": false)", R"("attention_bias": true)"));
  EXPECT_TRUE(llama.attention.qkv_bias);
  EXPECT_TRUE(llama.attention.out_bias);
  EXPECT_TRUE(read(with(kLlama, R"("mlp_bias": false)", R"("mlp_bias": true)")).dense.bias);
  const ModelSpec qwen2 =
      read(with(kLlama, R"("model_type": "llama")", R"("model_type": "qwen2")"));
  EXPECT_TRUE(qwen2.attention.qkv_bias);
  EXPECT_FALSE(qwen2.attention.out_bias);
  const ModelSpec qwen3 =
      read(with(kLlama, R"("model_type": "llama")", R"("model_type": "qwen3")"));
  EXPECT_FALSE(qwen3.attention.qkv_bias);
  EXPECT_TRUE(qwen3.attention.qk_norm);
  EXPECT_EQ(qwen3.attention.head_dim, 128);  // transformers' default for qwen3
}

TEST(ConfigReader, ReadsExpertsUnderEitherName) {
  for (const std::string name : {"num_local_experts", "num_experts"}) {
    const ModelSpec m = read(with(kMixtral, "num_local_experts", name));
    ASSERT_TRUE(m.has_moe());
    EXPECT_EQ(m.moe->experts, 8);
    EXPECT_EQ(m.moe->top_k, 2);
    EXPECT_EQ(m.moe->expert.width, 96);
    EXPECT_EQ(m.moe->shared_width, 0);
    EXPECT_FALSE(m.moe->correction_bias);
    EXPECT_EQ(m.layer_is_moe, std::vector<bool>({true, true}));
  }
}

TEST(ConfigReader, ReadsLatentAttentionAndSharedExperts) {
  const ModelSpec m = read(kDeepseek);
  EXPECT_EQ(m.attention.kind, AttentionKind::latent);
  EXPECT_EQ(m.attention.head_dim, 12);
  EXPECT_EQ(m.attention.v_head_dim, 10);
  EXPECT_EQ(m.attention.q_lora_rank, 24);
  EXPECT_EQ(m.attention.kv_lora_rank, 16);
  ASSERT_TRUE(m.has_moe());
  EXPECT_EQ(m.moe->experts, 16);
  EXPECT_EQ(m.moe->shared_width, 64);
  EXPECT_EQ(m.moe->groups, 4);
  EXPECT_EQ(m.moe->top_groups, 2);
  EXPECT_TRUE(m.moe->correction_bias);
  EXPECT_EQ(m.dense.width, 160);
  EXPECT_EQ(m.layer_is_moe, std::vector<bool>({false, true, true}));
  EXPECT_EQ(
      read(with(kDeepseek, R"("q_lora_rank": 24)", R"("q_lora_rank": null)")).attention.q_lora_rank,
      0);
  EXPECT_FALSE(read(with(kDeepseek, "noaux_tc", "group_limited_greedy")).moe->correction_bias);
  EXPECT_EQ(read(with(kDeepseek, R"("moe_layer_freq": 1)", R"("moe_layer_freq": 2)")).layer_is_moe,
            std::vector<bool>({false, false, true}));
}

TEST(ConfigReader, ReadsGpt2) {
  const ModelSpec m = read(kGpt2);
  EXPECT_EQ(m.dense.width, 256);  // n_inner absent: 4 · n_embd
  EXPECT_FALSE(m.dense.gated);
  EXPECT_TRUE(m.dense.bias);
  EXPECT_TRUE(m.tied_embeddings);
  EXPECT_TRUE(m.learned_positions);
  EXPECT_TRUE(m.norm_bias);
  EXPECT_FALSE(m.attention.rotary);
  EXPECT_EQ(m.attention.head_dim, 16);
}

// qwen2 and its kin: from max_window_layers on, and only where use_sliding_window says so.
TEST(ConfigReader, ReadsSlidingWindows) {
  std::string text = with(kLlama, R"("sliding_window": null)", R"("sliding_window": 100)");
  text = with(text, R"("max_window_layers": 28)", R"("max_window_layers": 1)");
  const auto of = [&](const char* family, const std::string& config) {
    return read(
        with(config, R"("model_type": "llama")", fmt::format(R"("model_type": "{}")", family)));
  };
  EXPECT_TRUE(of("qwen2", text).layer_is_local.empty());
  const std::string used =
      with(text, R"("use_sliding_window": false)", R"("use_sliding_window": true)");
  for (const char* family : {"qwen2", "qwen3"}) {
    const ModelSpec m = of(family, used);
    EXPECT_EQ(m.attention.window, 100);
    EXPECT_EQ(m.layer_is_local, std::vector<bool>({false, true, true})) << family;
  }
  EXPECT_EQ(of("mistral", text).layer_is_local, std::vector<bool>({true, true, true}));
  EXPECT_EQ(read(text).attention.window, 0);  // llama has none
  const std::string listed =
      with(used, R"("use_cache": true)",
           R"("layer_types": ["sliding_attention", "full_attention", "full_attention"])");
  EXPECT_EQ(of("qwen2", listed).layer_is_local, std::vector<bool>({true, false, false}));
  const auto where = refusal([&] { of("qwen2", with(listed, "sliding_", "slinding_")); });
  EXPECT_EQ(where.place, "/layer_types/0");
  EXPECT_EQ(where.expected, "sliding_attention or full_attention");
  EXPECT_THAT(refusal([&] { of("qwen2", with(listed, R"("full_attention", )", "")); }).expected,
              HasSubstr("each of the 3 layers"));
}

const std::string kQwenMoe = R"({
  "architectures": ["Qwen2MoeForCausalLM"], "decoder_sparse_step": 2, "hidden_size": 64,
  "intermediate_size": 160, "max_position_embeddings": 512, "max_window_layers": 21,
  "mlp_only_layers": [3], "model_type": "qwen2_moe", "moe_intermediate_size": 32,
  "norm_topk_prob": false, "num_attention_heads": 8, "num_experts": 16, "num_experts_per_tok": 4,
  "num_hidden_layers": 6, "num_key_value_heads": 8, "output_router_logits": false,
  "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 96, "sliding_window": 32768,
  "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 1000})";

TEST(ConfigReader, ReadsQwensExperts) {
  const ModelSpec m = read(kQwenMoe);
  EXPECT_EQ(m.layer_is_moe, std::vector<bool>({false, true, false, false, false, true}));
  EXPECT_TRUE(m.attention.qkv_bias);
  EXPECT_FALSE(m.attention.out_bias);
  EXPECT_EQ(m.moe->expert.width, 32);
  EXPECT_EQ(m.moe->shared_width, 96);
  EXPECT_TRUE(m.moe->shared_gate);
  EXPECT_EQ(m.dense.width, 160);
  const ModelSpec three =
      read(with(kQwenMoe, R"("model_type": "qwen2_moe")", R"("model_type": "qwen3_moe")"));
  EXPECT_TRUE(three.attention.qk_norm);
  EXPECT_FALSE(three.attention.qkv_bias);
  EXPECT_EQ(three.moe->shared_width, 0);
  EXPECT_EQ(refusal([] { read(with(kQwenMoe, "[3]", "[6]")); }).place, "/mlp_only_layers/0");
  EXPECT_THAT(refusal([] {
                read(with(kQwenMoe, R"("decoder_sparse_step": 2)", R"("decoder_sparse_step": 7)"));
              }).expected,
              HasSubstr("layers with experts"));
}

TEST(ConfigReader, ReadsDeepseek2AndTheModulesOf3) {
  EXPECT_EQ(read(kDeepseek).mtp_modules, 1);
  std::string two =
      with(kDeepseek, R"("model_type": "deepseek_v3")", R"("model_type": "deepseek_v2")");
  two = with(two, R"("num_nextn_predict_layers": 1,)", "");
  const ModelSpec limited = read(with(two, "noaux_tc", "group_limited_greedy"));
  EXPECT_EQ(limited.moe->groups, 4);
  EXPECT_FALSE(limited.moe->correction_bias);
  EXPECT_EQ(limited.mtp_modules, 0);
  std::string lite = with(with(two, "noaux_tc", "greedy"), R"("n_group": 4)", R"("n_group": null)");
  EXPECT_EQ(read(lite).moe->groups, 1);
  EXPECT_EQ(refusal([] {
              read(with(kDeepseek, R"("num_nextn_predict_layers": 1)",
                        R"("num_nextn_predict_layers": -1)"));
            }).place,
            "/num_nextn_predict_layers");
}

const std::string kGptOss = R"({
  "architectures": ["GptOssForCausalLM"], "attention_bias": true, "experts_per_token": 2,
  "head_dim": 16, "hidden_size": 64, "intermediate_size": 48, "max_position_embeddings": 512,
  "model_type": "gpt_oss", "num_attention_heads": 8, "num_experts_per_tok": 2,
  "num_hidden_layers": 3, "num_key_value_heads": 2, "num_local_experts": 8,
  "rope_theta": 150000, "sliding_window": 128, "swiglu_limit": 7.0, "tie_word_embeddings": false,
  "vocab_size": 1000})";

TEST(ConfigReader, ReadsGptOss) {
  const ModelSpec m = read(kGptOss);
  EXPECT_TRUE(m.attention.sinks && m.attention.qkv_bias && m.attention.out_bias);
  EXPECT_TRUE(m.moe->expert.bias && m.moe->router_bias);
  EXPECT_EQ(m.attention.window, 128);
  EXPECT_EQ(m.layer_is_local, std::vector<bool>({true, false, true}));
  // Counted by hand: a sink for every head, a bias on every product.
  const ParameterBuckets p = layer_parameters(m, 0);
  EXPECT_EQ(p.sharded, 64 * 128 * 2 + 2 * 64 * 32 + 128 + 2 * 32 + 8);
  EXPECT_EQ(p.replicated, 64 + 2 * 64 + 64 * 8 + 8);
  EXPECT_EQ(p.experts, 8 * (64 * 96 + 96 + 48 * 64 + 64));
}

const std::string kLlama4 = R"({
  "architectures": ["Llama4ForConditionalGeneration"], "boi_token_index": 200080,
  "model_type": "llama4", "text_config": {
    "attention_bias": false, "attention_chunk_size": 128, "head_dim": 16, "hidden_size": 64,
    "interleave_moe_layer_step": 2, "intermediate_size": 48, "intermediate_size_mlp": 96,
    "max_position_embeddings": 512, "model_type": "llama4_text", "no_rope_layers": [],
    "num_attention_heads": 8, "num_experts_per_tok": 1, "num_hidden_layers": 5,
    "num_key_value_heads": 2, "num_local_experts": 8, "use_qk_norm": true, "vocab_size": 1000},
  "tie_word_embeddings": true, "vision_config": {"hidden_size": 1408}})";

TEST(ConfigReader, ReadsTheTextPartOfLlama4) {
  const ModelSpec m = read(kLlama4);
  EXPECT_EQ(m.family, "llama4");
  EXPECT_EQ(m.hidden, 64);
  EXPECT_TRUE(m.tied_embeddings);  // the wrapper's word, where the text part has none
  EXPECT_EQ(m.layer_is_moe, std::vector<bool>({false, true, false, true, false}));
  EXPECT_EQ(m.layer_is_local, std::vector<bool>({true, true, true, false, true}));
  EXPECT_TRUE(m.attention.chunked);
  EXPECT_FALSE(m.turns_queries(3));
  EXPECT_EQ(m.moe->shared_width, 48);
  EXPECT_EQ(m.dense.width, 96);
  EXPECT_EQ(attention_parameters(m).replicated, 0);  // norms of q and k without gains
  ASSERT_EQ(m.notes.size(), 1U);
  EXPECT_EQ(m.notes[0], "vision_config is left out: the text part alone is planned");
  EXPECT_EQ(read(with(kLlama4, R"("interleave_moe_layer_step": 2)", R"("moe_layers": [0, 4])"))
                .layer_is_moe,
            std::vector<bool>({true, false, false, false, true}));
  EXPECT_EQ(refusal([] { read(with(kLlama4, "[]", "[1, 0]")); }).place,
            "/text_config/no_rope_layers");
  EXPECT_EQ(refusal([] { read(with(kLlama4, R"("attention_chunk_size": 128, )", "")); }).expected,
            "the key 'attention_chunk_size'");
}

TEST(ConfigReader, ReadsTheTextPartsOfOtherWrappers) {
  const std::string text =
      with(kLlama, R"("model_type": "llama")", R"("model_type": "qwen3_vl_text")");
  const ModelSpec wrapped =
      read(R"({"model_type": "qwen3_vl", "text_config": )" + text +
           R"(, "vision_config": {"depth": 27}, "audio_config": {"depth": 2}})");
  EXPECT_EQ(wrapped.family, "qwen3");
  EXPECT_TRUE(wrapped.attention.qk_norm);
  EXPECT_EQ(wrapped.notes.size(), 2U);
  // Older files have the text part's keys at the top.
  const ModelSpec flat =
      read(with(with(kLlama, R"("model_type": "llama")", R"("model_type": "qwen2_vl")"),
                R"("use_cache": true)", R"("vision_config": {"depth": 32})"));
  EXPECT_EQ(flat.family, "qwen2");
  EXPECT_EQ(flat.notes.size(), 1U);
  EXPECT_TRUE(read(kLlama).notes.empty());
}

const std::string kOpt = R"({
  "architectures": ["OPTForCausalLM"], "activation_function": "relu", "do_layer_norm_before": false,
  "dropout": 0.1, "enable_bias": true, "ffn_dim": 256, "hidden_size": 64,
  "max_position_embeddings": 128, "model_type": "opt", "num_attention_heads": 4,
  "num_hidden_layers": 2, "prefix": "</s>", "vocab_size": 1000, "word_embed_proj_dim": 32,
  "_remove_final_layer_norm": false})";

TEST(ConfigReader, ReadsOpt) {
  const ModelSpec m = read(kOpt);
  EXPECT_EQ(m.embedding_width, 32);
  EXPECT_FALSE(m.final_norm);
  EXPECT_TRUE(m.tied_embeddings);
  EXPECT_EQ(embedding_parameters(m).sharded, 1000 * 32);
  EXPECT_EQ(embedding_parameters(m).replicated, (128 + 2) * 64 + 32 * 64);
  EXPECT_EQ(head_parameters(m).total(), 64 * 32);
  const ModelSpec wide =
      read(with(with(kOpt, R"("word_embed_proj_dim": 32)", R"("d_model": 9)"),
                R"("do_layer_norm_before": false)", R"("do_layer_norm_before": true)"));
  EXPECT_EQ(wide.embedding_width, 0);
  EXPECT_EQ(head_parameters(wide).total(), 2 * 64);
}

TEST(ConfigReader, ReadsAGpt2WithExperts) {
  const std::string text = with(
      kGpt2, R"("model_type": "gpt2")",
      R"("model_type": "gpt_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_layer_step": 2)");
  const ModelSpec m = read(text);
  EXPECT_EQ(m.layer_is_moe, std::vector<bool>({false, true}));
  EXPECT_EQ(m.moe->expert.width, 256);
  EXPECT_TRUE(m.moe->expert.bias);
  EXPECT_FALSE(m.moe->expert.gated);
  EXPECT_FALSE(m.attention.both_ways);
  EXPECT_TRUE(m.learned_positions);
  const ModelSpec encoder = read(with(text, R"("bos_token_id": 50256)",
                                      R"("bidirectional": true, "learned_positions": false)"));
  EXPECT_TRUE(encoder.attention.both_ways);
  EXPECT_EQ(embedding_parameters(encoder).replicated, 0);
  EXPECT_EQ(
      refusal([&] { read(with(text, R"("moe_layer_step": 2)", R"("moe_layer_step": 3)")); }).place,
      "/moe_layer_step");
}

}  // namespace
}  // namespace steploom
