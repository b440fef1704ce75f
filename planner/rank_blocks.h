// The block templates of one kind of rank: the passes of each of its model chunks and the
// optimizer, costed, with the edges that join them.
//
// Where the schedule splits backward passes, `backward` and `last_backward` are their gradients of
// data, and those of weights, which reduce the gradient buckets, are passes of their own. Where it
// splits some of them, those in one piece are `whole` and `last_whole`.
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
  last_weight,
  whole,
  last_whole
};
inline constexpr std::size_t kPasses = 8;
// How many of them a chunk has: weight gradients apart, not, or sometimes.
constexpr std::size_t passes_of(const Layout& l) {
  return mixes_backward(l.schedule) ? kPasses : splits_backward(l.schedule) ? 6 : 4;
}

// Messages of a chunk, where they are issued beside its passes (Runtime::messages_apart).
enum class Message : std::size_t { receive_forward, send_forward, receive_backward, send_backward };
inline constexpr std::size_t kMessages = 4;

struct ChunkBlocks {
  std::array<Block, kPasses> block;      // by Pass
  std::array<Block, kMessages> message;  // by Message
  // Edges between the blocks of one micro-batch, from an earlier pass on a chunk of the rank.
  struct Saved {
    std::size_t chunk;
    Pass from, to;
    std::vector<BlockEdge> edges;
  };
  std::vector<Saved> saved;
  std::array<std::vector<BlockEdge>, kPasses> into_optimizer;  // by Pass, the last ones'

  const Block& of(Pass p) const { return block[static_cast<std::size_t>(p)]; }
  Block& of(Pass p) { return block[static_cast<std::size_t>(p)]; }
  const Block& of(Message m) const { return message[static_cast<std::size_t>(m)]; }
  Block& of(Message m) { return message[static_cast<std::size_t>(m)]; }
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
  // Types of device of the rank and of the stage's first, whose times passes choose by: all ranks
  // of a stage must issue the collectives of a group in one order.
  std::size_t type = 0, first_type = 0;
};

// `shapes` by chunk: in a V its messages go to other ranks than another's.
RankBlocks rank_blocks(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                       const std::vector<GroupShapes>& shapes, const RankPlace& place,
                       CostCache& costs);

// What layouts that differ in their partition, in where weight gradients lie or in how gradients
// are reduced have in common: a forward pass does not know how weight gradients are placed, nor a
// backward pass how the forward pass is cut, but for the numbers of its tensors. For layouts of one
// mesh, setting and place of costs; grows until it is cleared.
class BlockCache {
 public:
  RankBlocks rank_blocks(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                         const std::vector<GroupShapes>& shapes, const RankPlace& place,
                         CostCache& costs);
  void forget_forward() { forward_.clear(); }  // another partition is next

 private:
  // Without what place_tensors() adds.
  struct ForwardPasses {
    std::vector<ChunkBlocks> chunks;  // forward passes and their messages
    std::vector<Tensor> tensors;      // of all chunks
    std::vector<TensorId> numbers;    // of a tensor of the uncut graphs; empty: its own
  };
  struct BackwardPasses {
    std::vector<ChunkBlocks> chunks;  // backward passes and their messages
    Block optimizer;
  };
  struct Key {
    Layout layout;
    std::vector<StageSpan> spans;
    std::vector<GroupShapes> shapes;
    GroupShapes first_shapes{};
    std::size_t type = 0, first_type = 0;
    auto operator<=>(const Key&) const = default;
  };
  const std::vector<Chunk>& chunks(const Setting& s, Key key);
  const ForwardPasses& forward(const Setting& s, Key key, CostCache& costs);
  const BackwardPasses& backward(const Setting& s, Key key, int stage, CostCache& costs);

  std::map<Key, std::vector<Chunk>> chunks_;
  std::map<Key, ForwardPasses> forward_;
  std::map<Key, BackwardPasses> backward_;
};

}  // namespace steploom
