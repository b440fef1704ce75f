// From an operator of a model's step to the ask that measures its kernel, where there is one.
//
// The reverse of operator_of() (asks.h): a point measured for the ask is filed under the very Work.
// What a Work does not say comes from the model: which norm and activation, the width of a head,
// the vocabulary. No ask: collectives, fp16 and fp32, operators whose bytes no kernel of
// ours moves.
#pragma once

#include <optional>

#include "models/model_spec.h"
#include "profiler/asks.h"

namespace steploom {

std::optional<Ask> ask_of(const Work& work, const ModelSpec& model);

}  // namespace steploom
