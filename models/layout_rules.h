// The rules that a layout must keep, each with a name, a message and its source.
//
// What Megatron-Core refuses must never be planned. Rules are rows of one table, tried in order;
// the first that fails names the refusal, so counts by rule are the same on every run.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "models/layout.h"
#include "models/model_spec.h"
#include "models/workload.h"

namespace steploom {

struct RuleContext {
  const ModelSpec& model;
  const Workload& workload;
  const Layout& layout;
  int devices = 0;  // of the cluster
};

struct LayoutRule {
  std::string_view name;    // "tp divides heads"
  std::string_view source;  // where the rule comes from
  // Empty if kept; else what was found and what would satisfy it.
  std::optional<std::string> (*broken)(const RuleContext&);
};

std::span<const LayoutRule> layout_rules();

struct Refusal {
  std::string_view rule;
  std::string message;
};
std::optional<Refusal> refuse(const RuleContext& context);  // the first rule that fails

}  // namespace steploom
