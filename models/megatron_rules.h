// What Megatron-Core itself refuses, rule by rule, read off the flags of a run.
//
// Whatever is written for Megatron keeps all of them. Sources are files of Megatron-Core 0.20:
// arguments.py (megatron/training, validate_args), transformer_config.py and
// model_parallel_config.py (__post_init__), and those that a rule names.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/megatron_args.h"

namespace steploom {

// A run on so many devices. Flags are taken at their word: what is no number counts as absent.
struct MegatronRunFacts {
  const MegatronArgs& args;
  int devices = 1;

  bool has(std::string_view flag) const { return find(flag) != nullptr; }
  std::int64_t integer(std::string_view flag, std::int64_t otherwise) const;
  std::string text(std::string_view flag, std::string_view otherwise) const;
  std::vector<std::string> list(std::string_view flag) const;
  std::string environment(std::string_view name) const;  // "" where it is not set

  std::int64_t tp() const { return integer("tensor-model-parallel-size", 1); }
  std::int64_t pp() const { return integer("pipeline-model-parallel-size", 1); }
  std::int64_t cp() const { return integer("context-parallel-size", 1); }
  std::int64_t ep() const { return integer("expert-model-parallel-size", 1); }
  std::int64_t etp() const { return integer("expert-tensor-parallel-size", tp()); }
  std::int64_t vpp() const;           // model chunks a pipeline rank; 1: not interleaved
  std::string stage_letters() const;  // the layout string with its repetitions written out, or ""

 private:
  const MegatronArg* find(std::string_view flag) const;  // the last of equal ones
};

struct MegatronRule {
  std::string_view name;    // "tp·pp·cp divides devices"
  std::string_view source;  // "arguments.py"
  bool (*kept)(const MegatronRunFacts&);
};
std::span<const MegatronRule> megatron_rules();

// The first rule that is broken.
const MegatronRule* broken_megatron_rule(const MegatronRunFacts& facts);

}  // namespace steploom
