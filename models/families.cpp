#include "models/families.h"

#include <array>

namespace steploom {

std::span<const Family> families() {
  static constexpr std::array kFamilies{
      Family{"gpt2", "GPT2LMHeadModel", read_gpt2},
      Family{"llama", "LlamaForCausalLM", read_llama},
      Family{"mistral", "MistralForCausalLM", read_mistral},
      Family{"qwen2", "Qwen2ForCausalLM", read_qwen2},
      Family{"qwen3", "Qwen3ForCausalLM", read_qwen3},
      Family{"mixtral", "MixtralForCausalLM", read_mixtral},
      Family{"deepseek_v2", "DeepseekV2ForCausalLM", read_deepseek_v2},
      Family{"deepseek_v3", "DeepseekV3ForCausalLM", read_deepseek_v3},
      Family{"opt", "OPTForCausalLM", read_opt},
      Family{"qwen2_moe", "Qwen2MoeForCausalLM", read_qwen2_moe},
      Family{"qwen3_moe", "Qwen3MoeForCausalLM", read_qwen3_moe},
      Family{"gpt_oss", "GptOssForCausalLM", read_gpt_oss},
      Family{"llama4", "Llama4ForCausalLM", read_llama4},
      Family{"gpt_moe", "", read_gpt_moe},
  };
  return kFamilies;
}

std::span<const FamilyAlias> family_aliases() {
  static constexpr std::array kAliases{
      FamilyAlias{"llama4_text", "llama4"},         FamilyAlias{"qwen2_vl", "qwen2"},
      FamilyAlias{"qwen2_vl_text", "qwen2"},        FamilyAlias{"qwen2_5_vl", "qwen2"},
      FamilyAlias{"qwen2_5_vl_text", "qwen2"},      FamilyAlias{"qwen3_vl_text", "qwen3"},
      FamilyAlias{"qwen3_vl_moe_text", "qwen3_moe"}};
  return kAliases;
}

}  // namespace steploom
