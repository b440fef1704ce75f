// From one operator graph to one block template, and what is known inside it.
//
// Lowering a graph costs every operator on its group's shape, puts it on its stream, drops
// dependencies that stream order or other dependencies already imply, adds those that the runtime
// implies (torch's collectives wait for whatever was issued to the compute stream before them), and
// places the allocation and the free of every tensor.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "models/layout.h"
#include "models/op_graph.h"
#include "models/runtime.h"
#include "sim/cost_cache.h"
#include "sim/program.h"

namespace steploom {

using GroupShapes = std::array<GroupShape, kCommGroups>;  // by role

// For every stream, how many of the block's operators on it have finished: a vector clock.
using StreamClock = std::array<std::int32_t, kStreamKinds>;

struct Block {
  BlockTemplate body;
  std::vector<StreamClock> known;      // by operator: what is known finished when it starts
  std::vector<std::int32_t> sequence;  // by operator: its place on its stream, from 1
  std::array<std::int32_t, kStreamKinds> last;  // by stream: its last operator, or -1
  std::vector<std::uint32_t> leading;           // collectives issued before any compute operator

  // Is `op` known finished to whatever stream `s` runs after this block?
  bool known_after(std::uint32_t op, std::size_t s) const;
  // Does `op` of this block start after everything that stream `s` ran before this block?
  bool follows_stream(std::uint32_t op, std::size_t s) const;
};

Block lower_block(std::string name, const OpGraph& graph, const Runtime& runtime,
                  const Layout& layout, const GroupShapes& shapes, CostCache& costs);

// Places alloc and free of the micro-batch tensors of one chunk in its blocks. `tensors`: of the
// chunk; `passes`: the blocks of each pass of a micro-batch, in order: F, B, W where that is apart.
// What a pass touches and a later one reads lives until then. `after`: blocks that follow and have
// theirs placed.
void place_tensors(const std::vector<Tensor>& tensors,
                   const std::vector<std::vector<Block*>>& passes,
                   const std::vector<Block*>& after = {});

// The operators of `to` that must wait for operators of `from` in an earlier slot, because they
// read tensors that it wrote, and no stream implies it. `tensors` of their chunk.
struct BlockEdge {
  std::uint32_t from = 0, to = 0;
};
std::vector<BlockEdge> edges_between(const std::vector<Tensor>& tensors, const Block& from,
                                     const Block& to);

}  // namespace steploom
