// The block templates of one kind of rank: the passes of each of its model chunks and the
// optimizer, costed, with the edges that join them.
//
// Where the schedule splits backward passes, `backward` and `last_backward` are their gradients of
// data, and those of weights, which reduce the gradient buckets, are passes of their own.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <map>
#include <vector>

#include "models/chunk_builder.h"
#include "planner/block.h"
#include "planner/setting.h"

namespace steploom {

enum class Pass : std::size_t {
  forward,
  first_forward,
  backward,
  last_backward,
  weight,
  last_weight
};
inline constexpr std::size_t kPasses = 6;
// How many of them a chunk has: weight gradients apart or not.
constexpr std::size_t passes_of(const Layout& l) {
  return splits_backward(l.schedule) ? kPasses : kPasses - 2;
}

struct ChunkBlocks {
  std::array<Block, kPasses> block;  // by Pass
  // Edges between the blocks of one micro-batch, into a later pass from one before it.
  struct Saved {
    Pass from, to;
    std::vector<BlockEdge> edges;
  };
  std::vector<Saved> saved;
  // From the last backward block and, where they are apart, the last one of weight gradients.
  std::vector<BlockEdge> into_optimizer, weight_into_optimizer;

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

// What layouts that differ in their partition, in where weight gradients lie or in how gradients
// are reduced have in common: a forward pass does not know how weight gradients are placed, nor a
// backward pass how the forward pass is cut, but for the numbers of its tensors. For layouts of one
// mesh, setting and place of costs; grows until it is cleared.
class BlockCache {
 public:
  RankBlocks rank_blocks(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                         const GroupShapes& shapes, const RankPlace& place, CostCache& costs);
  void forget_forward() { forward_.clear(); }  // another partition is next

 private:
  struct ForwardBlocks {  // by chunk
    std::vector<Block> usual, first;
    std::vector<std::vector<Tensor>> tensors;
    std::vector<TensorId> numbers;  // of a tensor of the uncut graphs; empty: its own
  };
  struct BackwardBlocks {             // without what place_tensors() adds
    std::vector<ChunkBlocks> chunks;  // but their forward passes
    Block optimizer;
  };
  struct Key {
    Layout layout;
    std::vector<StageSpan> spans;
    GroupShapes shapes{}, first_shapes{};
    auto operator<=>(const Key&) const = default;
  };
  const std::vector<Chunk>& chunks(const Setting& s, Key key);
  const ForwardBlocks& forward(const Setting& s, Key key, CostCache& costs);
  const BackwardBlocks& backward(const Setting& s, Key key, int stage, CostCache& costs);

  std::map<Key, std::vector<Chunk>> chunks_;
  std::map<Key, ForwardBlocks> forward_;
  std::map<Key, BackwardBlocks> backward_;
};

}  // namespace steploom
