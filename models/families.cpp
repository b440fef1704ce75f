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
      Family{"deepseek_v3", "DeepseekV3ForCausalLM", read_deepseek_v3},
  };
  return kFamilies;
}

}  // namespace steploom
