// The architecture of a decoder-only transformer: what fixes its shapes and parameter counts.
//
// A ModelSpec holds no parallelism and no precision. Widths are in elements. A layer is attention
// followed by a feed-forward part that is dense or a mixture of experts (MoE); `layer_is_moe` says
// which, `layer_is_local` in which layers a query sees near tokens only. Layers are numbered from
// 0; layer `layers` stands for the head, layers beyond for multi-token-prediction modules. Families
// fill it from a Hugging Face config.json (config_reader.h).
#pragma once

#include <algorithm>
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
  int heads = 0;           // query heads
  int kv_heads = 0;        // key-value heads; equals heads for MLA
  int head_dim = 0;        // width of q and k per head; MLA: nope + rope
  int v_head_dim = 0;      // width of v per head
  bool qkv_bias = false;   // biases on the q, k and v projections
  bool out_bias = false;   // bias on the output projection
  bool qk_norm = false;    // RMSNorm of width head_dim on q and on k (qwen3)
  bool qk_gain = true;     // ... with a learned gain each; false: without (llama4)
  bool rotary = true;      // rotary position embedding on q and k
  bool sinks = false;      // a learned logit a head beside those of the keys (gpt_oss)
  bool both_ways = false;  // every query sees all tokens, those after its own too (BERT)
  // Local layers only: how many tokens a query sees, itself included; 0: all up to its own.
  std::int64_t window = 0;
  bool chunked = false;       // ... those of its own chunk of `window` tokens (llama4)
  bool global_rotary = true;  // other layers rotate and norm q and k too; false: neither (llama4)
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
  bool shared_gate = false;       // the shared expert's output is scaled by a gate: h weights
  bool router_bias = false;       // a bias on each expert's logit (gpt_oss)
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
  std::int64_t max_positions = 0;    // longest sequence the model was made for
  bool tied_embeddings = false;      // head shares the embedding's weights
  bool learned_positions = false;    // a table of positions × hidden is added (gpt2)
  int unused_positions = 0;          // rows of it beyond max_positions (opt: 2)
  std::int64_t embedding_width = 0;  // of the tables, projected to hidden and back; 0: hidden
  bool final_norm = true;            // before the head
  bool norm_bias = false;            // LayerNorm with bias; false: RMSNorm
  AttentionSpec attention;
  FfnSpec dense;                   // layers where layer_is_moe is false
  std::optional<MoeSpec> moe;      // absent in dense models
  std::vector<bool> layer_is_moe;  // one entry a layer; all false in dense models
  // One entry a layer: attention.window holds there; empty: in none.
  std::vector<bool> layer_is_local;
  // Multi-token-prediction modules (DeepSeek-V3, arXiv 2412.19437, section 2.2): each a layer of
  // the last one's kind behind a projection of hidden state and next token's embedding; the
  // embedding and the head are the model's own.
  int mtp_modules = 0;
  std::vector<std::string> notes;  // what of its config is not part of this, for people

  bool has_moe() const { return moe.has_value(); }
  bool is_moe(int layer) const { return has_moe() && layer_is_moe[kind_index(layer)]; }
  bool is_local(int layer) const {
    return attention.window > 0 && !layer_is_local.empty() && layer_is_local[kind_index(layer)];
  }
  bool turns_queries(int layer) const {  // rotary embedding, and norms of q and k where there are
    return attention.global_rotary || is_local(layer);
  }
  // The embedding's table is also needed beside the head.
  bool embedding_at_both_ends() const { return tied_embeddings || mtp_modules > 0; }
  std::int64_t table_width() const { return embedding_width > 0 ? embedding_width : hidden; }
  std::int64_t position_rows() const {
    return learned_positions ? max_positions + unused_positions : 0;
  }

 private:
  std::size_t kind_index(int layer) const {  // modules are of the last layer's kind
    return static_cast<std::size_t>(std::min(layer, layers - 1));
  }
};

}  // namespace steploom
