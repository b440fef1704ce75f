// The passes of a Timeline's schedule as spans of time, for traces.
//
// A slot lasts from the start of its first kernel to the end of its last, communication aside,
// which may outlast it. Slots of a device follow each other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/timeline.h"

namespace steploom {

struct SlotRange {
  std::uint32_t device = 0;
  std::uint32_t slot = 0;  // into Timeline::slots
  Picoseconds start = 0;
  Picoseconds end = 0;  // after start
};
std::vector<SlotRange> slot_ranges(const Timeline& timeline);  // in the order of the slots

// As PyTorch's pipelines name a pass: "PP:0F3" = stage 0, forward of micro-batch 3; what comes once
// a step has its own name.
std::string slot_name(const Timeline& timeline, std::uint32_t slot);

}  // namespace steploom
