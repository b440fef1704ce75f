// The block templates of one kind of rank: four passes of each of its model chunks and the
// optimizer, costed, with the edges that join them.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "models/chunk_builder.h"
#include "planner/block.h"
#include "planner/setting.h"

namespace steploom {

enum class Pass : std::size_t { forward, first_forward, backward, last_backward };
inline constexpr std::size_t kPasses = 4;

struct ChunkBlocks {
  std::array<Block, kPasses> block;  // by Pass
  // Edges between a forward and a backward block of one micro-batch: [first?][last?].
  std::array<std::array<std::vector<BlockEdge>, 2>, 2> saved;
  std::vector<BlockEdge> into_optimizer;  // from the last backward block

  const Block& of(Pass p) const { return block[static_cast<std::size_t>(p)]; }
  Block& of(Pass p) { return block[static_cast<std::size_t>(p)]; }
};

struct RankBlocks {
  std::vector<ChunkBlocks> chunks;
  Block optimizer;
  std::vector<Tensor> tensors;  // of all chunks
};

// Where a rank is, for passes (pass_context.h).
struct RankPlace {
  int stage = 0;
  GroupShapes first_shapes;  // groups of the stage's first rank
};

RankBlocks rank_blocks(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                       const GroupShapes& shapes, const RankPlace& place, CostCache& costs);

}  // namespace steploom
