// The slots of one rank in a Program: every pass an instance of its block, with the edges between
// slots that streams do not imply.
//
// A forward pass beside a backward pass (SlotSpec::beside_next) is a slot of a woven block where
// the layout asks for it (Layout::weave), else two slots one after the other. What waits for an
// operator of a woven pass waits for its place in that block.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "planner/message_slots.h"
#include "planner/pass_slots.h"
#include "planner/rank_blocks.h"
#include "planner/routed_loads.h"
#include "planner/setting.h"
#include "planner/weave.h"
#include "sim/program.h"

namespace steploom {

// What the ranks of one kind run, and where it lies in Program::blocks.
struct RankProgram {
  RankBlocks blocks;
  std::uint32_t first = 0;  // passes of each chunk, then the optimizer
  struct WovenBlock {
    Woven woven;
    std::uint32_t block = 0;
  };
  // By chunk and pass of the forward and of the backward pass; as they are first met.
  std::map<std::array<std::size_t, 4>, WovenBlock> woven;

  std::uint32_t optimizer(std::size_t passes) const {
    return first + static_cast<std::uint32_t>(blocks.chunks.size() * passes);
  }
};

// Where the loads of a rank's first slot begin in Program::durations and Program::shares; or none.
struct LoadsAt {
  std::uint32_t durations = kTemplateDurations;
  std::uint32_t shares = kEvenShares;
};

// Appends them. `issued`: where messages stand among the slots, empty where they are not apart;
// `counts` by block: how much its slots have of their own.
void append_slots(const Setting& setting, const Layout& layout, const std::vector<PassSlot>& slots,
                  const IssueOrder& issued, RankProgram& rank, LoadsAt loads,
                  const std::vector<RoutedCount>& counts, Program& program);

}  // namespace steploom
