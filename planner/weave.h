// A forward pass of one micro-batch woven into a backward pass of another: one block in place of
// two, so that the exchanges of each lie beside what the other computes.
//
// Both blocks keep their own order. They are cut after every run of the experts' exchanges, and the
// cuts are issued in turns, the backward pass first:
//
//   T0 y0 | S0 x0 | T1 y1 | S1 x1 | ...     S, x: forward computation and exchanges; T, y: backward
//
// which for layers with experts is the order of DeepSeek's and Megatron's overlap (DeepSeek-V3,
// arXiv 2412.19437, section 3.2.1; Megatron-Core, --overlap-moe-expert-parallel-comm): combine's
// gradient beside attention, dispatch beside the experts' backward pass, dispatch's gradient beside
// the experts, combine beside attention's backward pass. Without exchanges in one of the two, it
// follows the other.
//
// Nothing of one waits for the other but through streams: a collective that waits for everything
// issued to compute before it waits for its own pass's.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/block.h"

namespace steploom {

struct Woven {
  Block block;
  // By operator of the two blocks: its place in the woven one.
  std::vector<std::uint32_t> of_forward, of_backward;
};

// Where a block is cut: behind each run of its exchanges, before the next kernel, and at its end.
std::vector<std::uint32_t> cuts_of(const BlockTemplate& block);

// Both lowered, with their tensors placed. Operators of the backward pass are marked
// OpTemplate::beside.
Woven weave(const BlockTemplate& forward, const BlockTemplate& backward);

}  // namespace steploom
