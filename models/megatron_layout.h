// The layout that the flags of a Megatron-Core run describe, as text (layout.h).
#pragma once

#include <string>

#include "models/megatron_flags.h"
#include "models/model_spec.h"

namespace steploom {

// Throws Error naming file, line and flag, also for what a layout has no place for.
std::string megatron_layout(const MegatronRun& run, const ModelSpec& model);

// --tp-comm-overlap, which Megatron-Core turns off when it builds latent attention
// (extensions/transformer_engine.py, TELinear.__init__: its buffers are none of Transformer
// Engine's).
bool overlaps_tp(const MegatronRun& run, const ModelSpec& model);

// Why a flexible dispatcher (--moe-token-dispatcher-type flex) is costed as an all-to-all; "": it
// is not, or there is none.
std::string dispatcher_note(const MegatronRun& run, const ModelSpec& model);

}  // namespace steploom
