#include "planner/rank_blocks.h"

#include <string>
#include <utility>

#include "models/eager_passes.h"
#include "models/split_backward.h"
#include "planner/pass_partition.h"
#include "planner/passes.h"

namespace steploom {
namespace {

// Messages whose sender does not wait for the receiver: in other orders than 1F1B, where the
// runtime has the buffers, all of them. Interleaved, Megatron posts a receive a pass before it
// needs it, beside the pass between, and keeps buffers for what has to wait longer (schedules.py
// with overlap_p2p_comm: pp_post_forward, pp_post_backward, fwd_recv_buffer). A runtime with few
// buffers needs them only where groups are larger than the pipeline: a message from the last to the
// first rank then waits until the rest of its group has passed the chunk before.
void buffer_messages(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                     Block& b) {
  if (l.vpp == 1 && l.schedule == PipelineOrder::one_forward_one_backward) return;
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
  if (asks_backward_passes(l)) {
    const PassContext context{s, l, place.first_shapes, costs,
                              room_for_backward(s, l, place.stage, spans, chunks)};
    for (Chunk& chunk : chunks) apply_backward_passes(chunk, context);
  }
  RankBlocks out;
  const auto lowered = [&](std::string name, const OpGraph& graph) {
    Block block = lower_block(std::move(name), graph, s.runtime, l, shapes, costs);
    if (!s.runtime.messages_apart) buffer_messages(s, l, spans, block);
    return block;
  };
  out.optimizer = lowered("optimizer", chunks.back().optimizer);
  for (std::size_t k = 0; k < chunks.size(); ++k) {
    Chunk& chunk = chunks[k];
    const std::string of = chunks.size() == 1 ? "" : " chunk " + std::to_string(k);
    ChunkBlocks b;
    if (s.runtime.messages_apart) {
      const auto apart = [&](OpGraph& graph, Message receive, Message send) {
        PassAndMessages parts = without_messages(graph);
        graph = std::move(parts.pass);
        b.of(receive) = lowered("receive" + of, parts.receive);
        b.of(send) = lowered("send" + of, parts.send);
      };
      for (OpGraph* graph : {&chunk.forward, &chunk.first_forward})
        apart(*graph, Message::receive_forward, Message::send_forward);
      for (OpGraph* graph : {&chunk.backward, &chunk.last_backward})
        apart(*graph, Message::receive_backward, Message::send_backward);
    }
    const auto pass_block = [&](std::string name, const OpGraph& graph, EagerPass pass) {
      const bool eager = s.runtime.kernels == Kernels::torch_eager && l.pp > 1;
      return lowered(std::move(name), eager ? eager_pass(graph, pass, spans[k]) : graph);
    };
    b.of(Pass::forward) = pass_block("F" + of, chunk.forward, EagerPass::forward);
    b.of(Pass::first_forward) = pass_block("F first" + of, chunk.first_forward, EagerPass::forward);
    const bool split = splits_backward(l.schedule);
    if (split) {
      // PyTorch's first stage, whose input needs no gradient, has nothing to do before W.
      const bool whole = s.runtime.messages_apart && spans[k].embedding;
      const auto split_of = [&](const OpGraph& graph) {
        return whole ? BackwardBlocks{OpGraph(), graph} : split_backward(graph);
      };
      const BackwardBlocks usual = split_of(chunk.backward);
      const BackwardBlocks last = split_of(chunk.last_backward);
      const EagerPass weights = whole ? EagerPass::whole_backward : EagerPass::weight_gradients;
      b.of(Pass::backward) = pass_block("B" + of, usual.data, EagerPass::data_gradients);
      b.of(Pass::last_backward) = pass_block("B last" + of, last.data, EagerPass::data_gradients);
      b.of(Pass::weight) = pass_block("W" + of, usual.weight, weights);
      b.of(Pass::last_weight) = pass_block("W last" + of, last.weight, weights);
    } else {
      b.of(Pass::backward) = pass_block("B" + of, chunk.backward, EagerPass::whole_backward);
      b.of(Pass::last_backward) =
          pass_block("B last" + of, chunk.last_backward, EagerPass::whole_backward);
    }
    std::vector<std::vector<Block*>> passes{{&b.of(Message::receive_forward)},
                                            {&b.of(Pass::forward), &b.of(Pass::first_forward)},
                                            {&b.of(Message::send_forward)},
                                            {&b.of(Message::receive_backward)},
                                            {&b.of(Pass::backward), &b.of(Pass::last_backward)},
                                            {&b.of(Message::send_backward)}};
    if (split) passes.push_back({&b.of(Pass::weight), &b.of(Pass::last_weight)});
    if (k + 1 == chunks.size()) passes.back().push_back(&out.optimizer);
    place_tensors(chunk, passes);
    const auto join = [&](Pass from, Pass to) {
      b.saved.push_back({from, to, edges_between(chunk.tensors, b.of(from), b.of(to))});
    };
    for (const Pass forward : {Pass::forward, Pass::first_forward})
      for (const Pass backward : {Pass::backward, Pass::last_backward}) join(forward, backward);
    // The optimizer's tensors are in the last chunk's table, which holds those of all chunks.
    const std::vector<Tensor>& all = chunks.back().tensors;
    b.into_optimizer = edges_between(all, b.of(Pass::last_backward), out.optimizer);
    if (split) {
      for (const Pass forward : {Pass::forward, Pass::first_forward})
        for (const Pass weight : {Pass::weight, Pass::last_weight}) join(forward, weight);
      join(Pass::backward, Pass::weight);
      join(Pass::last_backward, Pass::last_weight);
      b.weight_into_optimizer = edges_between(all, b.of(Pass::last_weight), out.optimizer);
    }
    out.chunks.push_back(std::move(b));
  }
  out.tensors = std::move(chunks.back().tensors);
  return out;
}

}  // namespace steploom
