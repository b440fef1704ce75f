#include "planner/rank_blocks.h"

#include <string>
#include <utility>

#include "planner/pass_partition.h"
#include "planner/passes.h"

namespace steploom {
namespace {

// Messages whose sender does not wait for the receiver. Interleaved, Megatron posts a receive a
// pass before it needs it, beside the pass between, and keeps buffers for what has to wait longer
// (schedules.py with overlap_p2p_comm: pp_post_forward, pp_post_backward, fwd_recv_buffer). A
// runtime with few buffers needs them only where groups are larger than the pipeline: a message
// from the last to the first rank then waits until the rest of its group has passed the chunk
// before.
void buffer_messages(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                     Block& b) {
  if (l.vpp == 1) return;
  const bool all = s.runtime.receive_ahead == 0;
  const bool longer = l.vpp_group > l.pp;
  const bool first = longer && spans.front().embedding, last = longer && spans.back().head;
  for (OpTemplate& op : b.body.ops) {
    if (op.role == kNoRole) continue;
    const auto group = static_cast<CommGroup>(op.role);
    const bool to_next = group == CommGroup::pp_forward_out || group == CommGroup::pp_backward_in;
    const bool to_last = group == CommGroup::pp_forward_in || group == CommGroup::pp_backward_out;
    if ((to_next && (all || last)) || (to_last && (all || first))) op.eager = true;
  }
}

}  // namespace

RankBlocks rank_blocks(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                       const GroupShapes& shapes, const RankPlace& place, CostCache& costs) {
  std::vector<Chunk> chunks = build_chunks(s.model, s.work, l, s.runtime, spans);
  if (l.partition.cuts()) partition_forward(s, l, place.first_shapes, costs, chunks);
  const PassContext context{s, l, place.first_shapes, costs,
                            room_for_backward(s, l, place.stage, spans, chunks)};
  for (Chunk& chunk : chunks) apply_backward_passes(chunk, context);
  RankBlocks out;
  const auto lowered = [&](std::string name, const OpGraph& graph) {
    Block block = lower_block(std::move(name), graph, s.runtime, l, shapes, costs);
    buffer_messages(s, l, spans, block);
    return block;
  };
  out.optimizer = lowered("optimizer", chunks.back().optimizer);
  for (std::size_t k = 0; k < chunks.size(); ++k) {
    const Chunk& chunk = chunks[k];
    const std::string of = chunks.size() == 1 ? "" : " chunk " + std::to_string(k);
    ChunkBlocks b;
    b.of(Pass::forward) = lowered("F" + of, chunk.forward);
    b.of(Pass::first_forward) = lowered("F first" + of, chunk.first_forward);
    b.of(Pass::backward) = lowered("B" + of, chunk.backward);
    b.of(Pass::last_backward) = lowered("B last" + of, chunk.last_backward);
    std::vector<Block*> later{&b.of(Pass::backward), &b.of(Pass::last_backward)};
    if (k + 1 == chunks.size()) later.push_back(&out.optimizer);
    place_tensors(chunk, {&b.of(Pass::forward), &b.of(Pass::first_forward)}, later);
    const std::array forward{Pass::forward, Pass::first_forward};
    const std::array backward{Pass::backward, Pass::last_backward};
    for (std::size_t i = 0; i < 2; ++i)
      for (std::size_t j = 0; j < 2; ++j)
        b.saved[i][j] = edges_between(chunk.tensors, b.of(forward[i]), b.of(backward[j]));
    // The optimizer's tensors are in the last chunk's table, which holds those of all chunks.
    b.into_optimizer =
        edges_between(chunks.back().tensors, b.of(Pass::last_backward), out.optimizer);
    out.chunks.push_back(std::move(b));
  }
  out.tensors = std::move(chunks.back().tensors);
  return out;
}

}  // namespace steploom
