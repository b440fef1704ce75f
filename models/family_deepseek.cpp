// deepseek_v2 and deepseek_v3: latent attention (MLA), dense layers first, then experts with shared
// ones beside them, chosen within groups; in v3 under a correction bias. The modules of multi-token
// prediction (num_nextn_predict_layers) come after the last layer.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "models/config_keys.h"
#include "models/families.h"

namespace steploom {
namespace {

constexpr int kMostModules = 16;  // of multi-token prediction

AttentionSpec read_latent(const Json& config) {
  AttentionSpec attention;
  attention.kind = AttentionKind::latent;
  attention.heads = config.at("num_attention_heads").small_integer(1, kMostHeads);
  attention.kv_heads = attention.heads;
  attention.qk_nope_head_dim = config.at("qk_nope_head_dim").small_integer(1, kMostHeadDim);
  attention.qk_rope_head_dim = config.at("qk_rope_head_dim").small_integer(1, kMostHeadDim);
  attention.head_dim = attention.qk_nope_head_dim + attention.qk_rope_head_dim;
  attention.v_head_dim = config.at("v_head_dim").small_integer(1, kMostHeadDim);
  attention.kv_lora_rank = config.at("kv_lora_rank").small_integer(1, int{kMostWidth});
  if (const auto rank = config.find("q_lora_rank")) {
    attention.q_lora_rank = rank->small_integer(1, int{kMostWidth});
  }
  if (const auto bias = config.find("attention_bias"); bias && bias->boolean()) {
    bias->refuse("false for latent attention");
  }
  return attention;
}

MoeSpec read_experts(const Json& config) {
  MoeSpec moe;
  const Json experts = either(config, {"n_routed_experts", "num_local_experts", "num_experts"});
  moe.experts = experts.small_integer(1, kMostExperts);
  moe.top_k = read_top_k(config, moe.experts);
  moe.expert.width = config.at("moe_intermediate_size").integer(1, kMostWidth);
  if (const auto shared = config.find("n_shared_experts")) {
    moe.shared_width = shared->integer(0, kMostExperts) * moe.expert.width;
    if (moe.shared_width > kMostWidth) {
      shared->refuse(fmt::format("shared experts of at most {} together", kMostWidth));
    }
  }
  return moe;
}

void read_groups(const Json& config, MoeSpec& moe) {
  const Json groups = config.at("n_group");
  moe.groups = groups.small_integer(1, moe.experts);
  if (moe.experts % moe.groups != 0) {
    groups.refuse(fmt::format("a divisor of the {} experts", moe.experts));
  }
  const Json top_groups = config.at("topk_group");
  moe.top_groups = top_groups.small_integer(1, moe.groups);
  if (moe.experts / moe.groups * moe.top_groups < moe.top_k) {
    top_groups.refuse(
        fmt::format("groups that hold at least the {} experts of a token", moe.top_k));
  }
}

// Layer i has experts from first_k_dense_replace on, where moe_layer_freq divides i.
std::vector<bool> read_layer_kinds(const Json& config, int layers) {
  const Json first = config.at("first_k_dense_replace");
  const int dense = first.small_integer(0, kMostLayers);
  const auto freq = config.find("moe_layer_freq");
  const int every = freq ? freq->small_integer(1, kMostLayers) : 1;
  std::vector<bool> is_moe;
  for (int i = 0; i < layers; ++i) is_moe.push_back(i >= dense && i % every == 0);
  if (std::find(is_moe.begin(), is_moe.end(), true) == is_moe.end()) {
    first.refuse(fmt::format("at least one of the {} layers with experts", layers));
  }
  return is_moe;
}

ModelSpec read_deepseek(const Json& config) {
  static constexpr std::array<std::string_view, 26> kKeys{"hidden_size",
                                                          "intermediate_size",
                                                          "num_hidden_layers",
                                                          "num_attention_heads",
                                                          "num_key_value_heads",
                                                          "vocab_size",
                                                          "max_position_embeddings",
                                                          "tie_word_embeddings",
                                                          "attention_bias",
                                                          "q_lora_rank",
                                                          "kv_lora_rank",
                                                          "qk_nope_head_dim",
                                                          "qk_rope_head_dim",
                                                          "v_head_dim",
                                                          "n_routed_experts",
                                                          "num_local_experts",
                                                          "num_experts",
                                                          "n_shared_experts",
                                                          "num_experts_per_tok",
                                                          "moe_intermediate_size",
                                                          "topk_method",
                                                          "n_group",
                                                          "topk_group",
                                                          "first_k_dense_replace",
                                                          "moe_layer_freq",
                                                          "num_nextn_predict_layers"};
  refuse_misspelt(config, kKeys);
  ModelSpec spec = read_trunk(config);
  spec.attention = read_latent(config);
  spec.dense.width = config.at("intermediate_size").integer(1, kMostWidth);
  spec.moe = read_experts(config);
  spec.layer_is_moe = read_layer_kinds(config, spec.layers);
  if (const auto modules = config.find("num_nextn_predict_layers"))
    spec.mtp_modules = modules->small_integer(0, kMostModules);
  return spec;
}

}  // namespace

ModelSpec read_deepseek_v2(const Json& config) {
  ModelSpec spec = read_deepseek(config);
  const auto method = config.find("topk_method");
  if (method && method->text() == "group_limited_greedy") read_groups(config, *spec.moe);
  return spec;
}

ModelSpec read_deepseek_v3(const Json& config) {
  ModelSpec spec = read_deepseek(config);
  const auto method = config.find("topk_method");
  spec.moe->correction_bias = !method || method->text() == "noaux_tc";
  read_groups(config, *spec.moe);
  return spec;
}

}  // namespace steploom
