// From the flags of a Megatron-Core run to the model, the workload, the layout and the runtime that
// they describe.
//
// Defaults are Megatron-Core 0.20's (megatron/training/arguments.py, validate_args): the
// feed-forward width is 4·hidden, or the multiple of 64 below 8/3·hidden with SwiGLU; embeddings
// are tied and linear layers have biases unless said otherwise; the vocabulary is padded to a
// multiple of make-vocab-size-divisible-by times tp (by the builder, where that is 128); expert
// tensor parallelism follows tensor parallelism.
#pragma once

#include <string>
#include <vector>

#include "models/megatron_args.h"
#include "models/model_spec.h"
#include "models/runtime.h"
#include "models/workload.h"

namespace steploom {

struct MegatronQuestion {
  ModelSpec model;
  Workload work;
  std::string layout;                     // text form (layout.h); the devices come from the cluster
  Runtime runtime;                        // megatron-core with the run's overlap flags
  std::vector<std::string> unknown;       // flags that steploom does not know
  std::vector<std::string> not_modelled;  // flags that it knows and has no model of
  std::vector<std::string> notes;         // of the reading
};

// `name`: what the model is called. Throws Error naming file, line and flag.
MegatronQuestion from_megatron(const MegatronArgs& args, std::string name);

// Which layers have experts: "2" (layer i where 2 divides i) or a Python list, "([0]*3+[1]*58)".
// Empty where the text is neither, or makes more than `most` entries.
std::vector<bool> expert_layers(std::string_view frequency, int layers, std::size_t most);

}  // namespace steploom
