// Small config.json texts of some families, with the harmless keys that hub files have.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "models/config_reader.h"

namespace steploom {

inline ModelSpec read(const std::string& text) {
  return read_model_config(Json::parse(text, "config.json"), "test");
}

// A small config of a family with one piece of text replaced, so that each test shows its change.
inline std::string with(std::string text, const std::string& old, const std::string& now) {
  const std::size_t at = text.find(old);
  EXPECT_NE(at, std::string::npos) << old;
  return text.replace(at, old.size(), now);
}

// The keys of a llama as the hub has them, harmless ones included.
inline const std::string kLlama = R"({
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 128000, "eos_token_id": [128001, 128008], "hidden_act": "silu",
  "hidden_size": 64, "initializer_range": 0.02, "intermediate_size": 160,
  "max_position_embeddings": 512, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 8, "num_hidden_layers": 3, "num_key_value_heads": 2,
  "pad_token_id": null, "pretraining_tp": 1, "quantization_config": null, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 8.0, "rope_type": "llama3"}, "rope_theta": 500000.0,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.42.3",
  "use_cache": true, "vocab_size": 1000, "_name_or_path": "x", "output_attentions": false,
  "use_sliding_window": false, "sliding_window": null, "max_window_layers": 28})";

inline const std::string kMixtral = R"({
  "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
  "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
  "max_position_embeddings": 512, "model_type": "mixtral", "num_attention_heads": 8,
  "num_experts_per_tok": 2, "num_hidden_layers": 2, "num_key_value_heads": 4,
  "num_local_experts": 8, "output_router_logits": false, "router_aux_loss_coef": 0.02,
  "router_jitter_noise": 0.0, "sliding_window": null, "vocab_size": 1000})";

inline const std::string kDeepseek = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, "aux_loss_alpha": 0.001,
  "bos_token_id": 0, "ep_size": 1, "first_k_dense_replace": 1, "hidden_act": "silu",
  "hidden_size": 64, "initializer_range": 0.02, "intermediate_size": 160, "kv_lora_rank": 16,
  "max_position_embeddings": 512, "model_type": "deepseek_v3", "moe_intermediate_size": 32,
  "moe_layer_freq": 1, "n_group": 4, "n_routed_experts": 16, "n_shared_experts": 2,
  "norm_topk_prob": true, "num_attention_heads": 4, "num_experts_per_tok": 4,
  "num_hidden_layers": 3, "num_key_value_heads": 4, "num_nextn_predict_layers": 1,
  "pretraining_tp": 1, "q_lora_rank": 24, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
  "rms_norm_eps": 1e-06, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
  "seq_aux": true, "tie_word_embeddings": false, "topk_group": 2, "topk_method": "noaux_tc",
  "torch_dtype": "bfloat16", "use_cache": true, "v_head_dim": 10, "vocab_size": 1000})";

inline const std::string kGpt2 = R"({
  "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
  "bos_token_id": 50256, "embd_pdrop": 0.1, "initializer_range": 0.02,
  "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 64, "n_head": 4,
  "n_layer": 2, "n_positions": 128, "resid_pdrop": 0.1, "summary_type": "cls_index",
  "task_specific_params": {"text-generation": {"do_sample": true}}, "vocab_size": 1000})";

}  // namespace steploom
