// What torch.distributed.pipelining refuses of a schedule file, and what it does not refuse but
// would compute wrongly: checked before a file is written.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "planner/torch_actions.h"

namespace steploom {

struct TorchFile {
  const TorchRows& rows;
  int ranks = 1;
  int stages = 1;
  std::int32_t micro_batches = 1;
  bool messages = false;  // compute_comms
};

struct TorchRule {
  std::string_view name;
  std::string_view source;
  std::optional<std::string> (*broken)(const TorchFile& file);  // how, or nothing
};

std::span<const TorchRule> torch_rules();

// The first rule that the file breaks: "name: how (source)"; empty: none.
std::string torch_fault(const TorchFile& file);

}  // namespace steploom
