// The flags of Megatron-Core 0.20 that steploom knows: what they take, and what becomes of them.
//
// To learn a flag: add a row in megatron_flags.cpp; if it is to be read, from_megatron.cpp reads
// it. Source: Megatron-Core 0.20, megatron/training/arguments.py and the dataclasses its flags are
// generated from (transformer_config.py, distributed_data_parallel_config.py).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/megatron_args.h"

namespace steploom {

enum class FlagTakes : std::uint8_t { nothing, integer, number, text, several };

enum class FlagRole : std::uint8_t {
  read,          // goes into the model, the workload, the layout or the runtime
  not_modelled,  // may change time or memory, and steploom has no model of it
  no_effect,     // changes neither time nor memory of a step: data, logging, learning rates
};

struct MegatronFlag {
  std::string_view name;
  FlagTakes takes = FlagTakes::nothing;
  FlagRole role = FlagRole::no_effect;
};
std::span<const MegatronFlag> megatron_flags();

// The flags of a run, checked against the table. The last of two equal flags counts, as in
// argparse. Accessors throw Error naming file, line, flag, what was expected and found.
class MegatronRun {
 public:
  // Throws Error where a known flag has too few or too many values.
  explicit MegatronRun(const MegatronArgs& args);

  bool has(std::string_view name) const { return find(name) != nullptr; }
  std::int64_t integer(std::string_view name, std::int64_t least, std::int64_t most) const;
  std::int64_t integer_or(std::string_view name, std::int64_t otherwise, std::int64_t least,
                          std::int64_t most) const;
  std::string text_or(std::string_view name, std::string_view otherwise) const;
  std::vector<std::string> list(std::string_view name) const;  // empty if absent

  // Throws Error at the flag.
  [[noreturn]] void refuse(std::string_view name, std::string expected, std::string found,
                           std::string hint = "") const;

  // Flags of the run in its order, "--name value", each once.
  std::vector<std::string> unknown() const;       // with "did you mean" where something is near
  std::vector<std::string> not_modelled() const;  // but parts of what is off

 private:
  const MegatronArg* find(std::string_view name) const;  // asserts that the table has it as read

  const MegatronArgs& args_;
};

}  // namespace steploom
