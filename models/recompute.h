// What of the forward pass is thrown away and run again in the backward pass, and its text form.
//
// full: whole layers (Megatron's recompute-granularity full). Method `uniform` cuts the layers of a
// pipeline chunk into groups of `layers` and keeps each group's input; `block` recomputes the first
// `layers` layers of a chunk one by one and keeps everything of the others. selective: parts of
// every layer (recompute-modules); core_attn alone is selective recomputation as Korthikanti et al.
// have it (arXiv 2205.05198, section 5).
//
// Text: "none", "full", "full:uniform:2", "full:block:3", "selective" (core_attn),
// "selective:core_attn+layernorm".
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace steploom {

enum class Recompute : std::uint8_t { none, full, selective };
std::string_view name_of(Recompute r);

// Names are Megatron-Core's (transformer_config.py, recompute_modules).
enum class RecomputeModule : std::uint8_t {
  core_attn,  // scores, softmax, dropout, product with the values; input: q, k, v
  layernorm,  // the two norms of a layer
  mlp,        // a dense layer's feed-forward part
  moe_act,    // the experts' activation function
  moe,        // the whole mixture-of-experts part, its all-to-alls included
  // Latent attention from the down projections' outputs to q, k, v: norms, up projections, rope
  // (multi_latent_attention.py, qkv_up_proj_and_rope_apply).
  mla_up_proj,
  shared_experts,  // the expert that every token visits, with its gate; within moe, once more
};
inline constexpr int kRecomputeModules = static_cast<int>(RecomputeModule::shared_experts) + 1;

enum class RecomputeMethod : std::uint8_t { uniform, block };

struct RecomputeDetail {
  std::uint16_t modules = 0;                          // selective: bit i stands for module i
  RecomputeMethod method = RecomputeMethod::uniform;  // full
  int layers = 1;  // full: of a group (uniform), or at the beginning of a chunk (block)

  bool has(RecomputeModule m) const { return ((modules >> static_cast<int>(m)) & 1) != 0; }
  auto operator<=>(const RecomputeDetail&) const = default;
};

struct RecomputeChoice {
  Recompute what = Recompute::none;
  RecomputeDetail detail;
};
RecomputeChoice parse_recompute(std::string_view text);  // throws Error
std::string to_text(Recompute what, const RecomputeDetail& detail);

// Selective recomputation of core attention alone.
RecomputeDetail core_attention_only();

}  // namespace steploom
