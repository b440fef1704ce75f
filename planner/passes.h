// The passes over a chunk's backward graphs that need durations, in the order in which they act.
//
// What a pass may be joined with is a layout rule (models/layout_rules.h), refused by name. Adding
// one: its file planner/pass_<name>.h, its row in passes.cpp, its key in Layout.
#pragma once

#include <span>
#include <string_view>

#include "models/chunk_builder.h"
#include "planner/pass_context.h"

namespace steploom {

struct BackwardPass {
  std::string_view key;     // of the layout's text form
  std::string_view source;  // where the technique comes from
  bool (*asked)(const Layout& layout);
  OpGraph (*rewrite)(const OpGraph& backward, const std::vector<Tensor>& tensors,
                     const PassContext& context);
};

std::span<const BackwardPass> backward_passes();

bool asks_backward_passes(const Layout& layout);  // any of them

// Both backward graphs of a chunk, by every pass that the layout asks for.
void apply_backward_passes(Chunk& chunk, const PassContext& context);

// Bytes that one of a rank's backward passes may allocate: the device's memory without the fixed
// part and what the most micro-batches in flight at the start of a backward pass have saved.
Bytes room_for_backward(const Setting& setting, const Layout& layout, int stage,
                        const std::vector<StageSpan>& spans, const std::vector<Chunk>& chunks);

}  // namespace steploom
