// The architecture of a decoder-only transformer: what fixes its shapes and parameter counts.
//
// A ModelSpec holds no parallelism and no precision. Widths are in elements. A layer is attention
// followed by a feed-forward part that is dense or a mixture of experts (MoE); `layer_is_moe` says
// which. Families fill it from a Hugging Face config.json (config_reader.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace steploom {

enum class AttentionKind : std::uint8_t {
  grouped_query,  // GQA; MHA when kv_heads == heads, MQA when kv_heads == 1
  latent,         // MLA: keys and values through a low-rank latent (DeepSeek-V2, section 2.1)
};

struct AttentionSpec {
  AttentionKind kind = AttentionKind::grouped_query;
  int heads = 0;          // query heads
  int kv_heads = 0;       // key-value heads; equals heads for MLA
  int head_dim = 0;       // width of q and k per head; MLA: nope + rope
  int v_head_dim = 0;     // width of v per head
  bool qkv_bias = false;  // biases on the q, k and v projections
  bool out_bias = false;  // bias on the output projection
  bool qk_norm = false;   // RMSNorm of width head_dim on q and on k (qwen3)
  bool rotary = true;     // rotary position embedding on q and k
  // MLA only.
  int q_lora_rank = 0;       // 0: q is projected directly
  int kv_lora_rank = 0;      // width of the latent
  int qk_nope_head_dim = 0;  // part of head_dim without rotary
  int qk_rope_head_dim = 0;  // part of head_dim with rotary, one key shared by all heads
};

struct FfnSpec {
  std::int64_t width = 0;  // intermediate width
  bool gated = true;       // three matrices (SwiGLU) or two (GELU)
  bool bias = false;
};

struct MoeSpec {
  int experts = 0;                // routed experts
  int top_k = 0;                  // experts per token
  FfnSpec expert;                 // one routed expert
  std::int64_t shared_width = 0;  // width of the shared expert that every token visits; 0: none
  bool correction_bias = false;   // one bias per expert in the router's choice (DeepSeek-V3)
  int groups = 1;                 // routing groups (n_group)
  int top_groups = 1;             // groups that a token may choose from (topk_group)
};

struct ModelSpec {
  std::string name;    // "mixtral-8x7b"
  std::string family;  // config.json's model_type: "mixtral"
  std::int64_t hidden = 0;
  int layers = 0;
  std::int64_t vocab = 0;
  std::int64_t max_positions = 0;  // longest sequence the model was made for
  bool tied_embeddings = false;    // head shares the embedding's weights
  bool learned_positions = false;  // a max_positions × hidden table is added (gpt2)
  bool norm_bias = false;          // LayerNorm with bias; false: RMSNorm
  AttentionSpec attention;
  FfnSpec dense;                   // layers where layer_is_moe is false
  std::optional<MoeSpec> moe;      // absent in dense models
  std::vector<bool> layer_is_moe;  // one entry a layer; all false in dense models

  bool has_moe() const { return moe.has_value(); }
};

}  // namespace steploom
