// From a model, a workload, a layout and a runtime to the flags of a Megatron-Core run: the way
// back of from_megatron.h, which reads from what is written here the same model, workload and
// layout.
//
// What Megatron-Core has no flag for is never dropped silently: each such thing is an item that
// says what the plan has and what the run does in its place. What Megatron itself refuses
// (megatron_rules.h) is refused, and so is a precision that it does not train in.
#pragma once

#include <string>
#include <vector>

#include "models/layout.h"
#include "models/megatron_args.h"
#include "models/model_spec.h"
#include "models/runtime.h"
#include "models/workload.h"

namespace steploom {

struct MegatronExport {
  MegatronArgs args;
  // "chunks=4: Megatron-Core exchanges an expert layer's rows at once".
  std::vector<std::string> not_expressed;
};

// Throws Error naming the rule.
MegatronExport to_megatron(const ModelSpec& model, const Workload& work, const Layout& layout,
                           const Runtime& runtime);

// "([0]*3+[1]*58)", or "1" where all layers have experts: --moe-layer-freq.
std::string expert_layers_text(const std::vector<bool>& is_moe);

}  // namespace steploom
