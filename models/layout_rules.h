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
#include "models/runtime.h"
#include "models/workload.h"

namespace steploom {

struct RuleContext {
  const ModelSpec& model;
  const Workload& workload;
  const Layout& layout;
  int devices = 0;                   // of the cluster
  const Runtime* runtime = nullptr;  // nullptr: one that can run everything
  int devices_per_node = 0;          // 0: all on one
};

struct LayoutRule {
  std::string_view name;    // "tp divides heads"
  std::string_view source;  // where the rule comes from
  // Empty if kept; else what was found and what would satisfy it.
  std::optional<std::string> (*broken)(const RuleContext&);
  // Of a layout it reads tp, cp, cp_comm, pp, dp, ep, etp and sp alone. Such rules come first.
  bool of_mesh = false;
};

std::span<const LayoutRule> layout_rules();

struct Refusal {
  std::string_view rule;
  std::string message;
};
std::optional<Refusal> refuse(const RuleContext& context);  // the first rule that fails
// The same of the rules of the mesh alone: what it refuses is refused whatever else is chosen.
std::optional<Refusal> refuse_mesh(const RuleContext& context);

}  // namespace steploom
