// The model families that steploom reads: one row and one file each.
//
// To add a family: write family_<name>.cpp with one reader, declare it here, add a row to the table
// in families.cpp and a config to examples/models/.
#pragma once

#include <span>
#include <string_view>

#include "models/json_reader.h"
#include "models/model_spec.h"

namespace steploom {

struct Family {
  std::string_view model_type;    // config.json's "model_type"
  std::string_view architecture;  // config.json's "architectures"[0], if model_type is not known
  ModelSpec (*read)(const Json& config);  // all but the name and the family
};

std::span<const Family> families();

// Text parts that multimodal models call by names of their own.
struct FamilyAlias {
  std::string_view model_type;
  std::string_view family;
};
std::span<const FamilyAlias> family_aliases();

ModelSpec read_gpt2(const Json& config);
ModelSpec read_llama(const Json& config);
ModelSpec read_mistral(const Json& config);
ModelSpec read_qwen2(const Json& config);
ModelSpec read_qwen3(const Json& config);
ModelSpec read_mixtral(const Json& config);
ModelSpec read_deepseek_v2(const Json& config);
ModelSpec read_deepseek_v3(const Json& config);
ModelSpec read_opt(const Json& config);
ModelSpec read_qwen2_moe(const Json& config);
ModelSpec read_qwen3_moe(const Json& config);
ModelSpec read_gpt_moe(const Json& config);
ModelSpec read_gpt_oss(const Json& config);
ModelSpec read_llama4(const Json& config);

}  // namespace steploom
