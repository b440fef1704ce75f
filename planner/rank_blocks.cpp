#include "planner/rank_blocks.h"

#include <string>
#include <utility>

#include "models/eager_passes.h"
#include "models/split_backward.h"
#include "planner/pass_partition.h"
#include "planner/passes.h"
#include "planner/ranks.h"

namespace steploom {
namespace {

// Messages whose sender does not wait for the receiver: in other orders than 1F1B, where the
// runtime has the buffers, all of them. Interleaved, Megatron posts a receive a pass before it
// needs it, beside the pass between, and keeps buffers for what has to wait longer (schedules.py
// with overlap_p2p_comm: pp_post_forward, pp_post_backward, fwd_recv_buffer). A runtime with few
// buffers needs them only where groups are larger than the pipeline: a message from the last to the
// first rank then waits until the rest of its group has passed the chunk before; or in a V, or
// where passes are woven, of all messages.
void buffer_messages(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                     Block& b) {
  const bool plain = l.schedule == PipelineOrder::one_forward_one_backward && !l.weave;
  if (l.vpp == 1 && plain) return;
  const bool all = s.runtime.receive_ahead == 0 || in_a_v(l.schedule) || l.weave;
  const bool longer = l.vpp_group > l.pp;
  const bool first = longer && spans.front().embedding, last = longer && spans.back().head;
  for (std::size_t i = 0; i < b.body.ops.size(); ++i) {
    OpTemplate& op = b.body.ops[i];
    if (op.role == kNoRole) continue;
    const CommGroup group = b.body.infos[i].group;
    const bool to_next = group == CommGroup::pp_forward_out || group == CommGroup::pp_backward_in;
    const bool to_last = group == CommGroup::pp_forward_in || group == CommGroup::pp_backward_out;
    if ((to_next && (all || last)) || (to_last && (all || first))) op.eager = true;
  }
}

void set_roles(const Layout& l, int chunk, Block& b) {
  for (std::size_t i = 0; i < b.body.ops.size(); ++i)
    if (b.body.ops[i].role != kNoRole)
      b.body.ops[i].role = static_cast<std::uint16_t>(role_of(b.body.infos[i].group, l, chunk));
}

using PassList = std::vector<Pass>;
const PassList kForward{Pass::forward, Pass::first_forward};
const PassList kBackward{Pass::backward, Pass::last_backward};
const PassList kWeight{Pass::weight, Pass::last_weight};
const PassList kWhole{Pass::whole, Pass::last_whole};

// Which passes follow which on one micro-batch.
class Joining {
 public:
  Joining(const Layout& l, const std::vector<StageSpan>& spans, const std::vector<Tensor>& tensors,
          std::vector<ChunkBlocks>& chunks)
      : split_(splits_backward(l.schedule)),
        mixed_(mixes_backward(l.schedule)),
        spans_(spans),
        tensors_(tensors),
        chunks_(chunks) {}

  // A chunk, or two of which the first hands on, in the order of a micro-batch.
  void place(const Chunk& table) {
    for (std::size_t k = 0; k < chunks_.size(); ++k) {
      std::vector<std::size_t> down{k};
      if (spans_[k].hands_on) down.push_back(++k);
      const std::vector<std::size_t> up(down.rbegin(), down.rend());
      std::vector<std::vector<Block*>> passes, whole;
      std::vector<Block*> sends;
      for (const std::size_t c : down) {
        passes.push_back({&chunks_[c].of(Message::receive_forward)});
        passes.push_back(blocks(c, kForward));
        passes.push_back({&chunks_[c].of(Message::send_forward)});
      }
      for (const std::size_t c : up) {
        passes.push_back({&chunks_[c].of(Message::receive_backward)});
        passes.push_back(blocks(c, kBackward));
        passes.push_back({&chunks_[c].of(Message::send_backward)});
      }
      if (split_)
        for (const std::size_t c : up) passes.push_back(blocks(c, kWeight));
      place_tensors(table, passes);
      if (mixed_)
        for (const std::size_t c : up) {
          whole.push_back(blocks(c, kWhole));
          sends.push_back(&chunks_[c].of(Message::send_backward));
        }
      place_tensors(table, whole, sends);
    }
  }

  void join() {
    for (std::size_t k = 0; k < chunks_.size(); ++k) {
      join(k, kForward, k, kBackward);
      if (split_) {
        join(k, kForward, k, kWeight);
        join(k, {Pass::backward}, k, {Pass::weight});
        join(k, {Pass::last_backward}, k, {Pass::last_weight});
      }
      if (mixed_) join(k, kForward, k, kWhole);
      if (!spans_[k].hands_on) continue;
      for (const PassList& later : {kForward, kBackward, kWeight, kWhole})
        join(k, kForward, k + 1, later);
      for (const PassList& before : {kBackward, kWhole})
        for (const PassList& later : {kBackward, kWeight, kWhole}) join(k + 1, before, k, later);
    }
  }

 private:
  std::vector<Block*> blocks(std::size_t chunk, const PassList& passes) {
    std::vector<Block*> out;
    for (const Pass pass : passes) out.push_back(&chunks_[chunk].of(pass));
    return out;
  }
  void join(std::size_t from, const PassList& before, std::size_t to, const PassList& later) {
    for (const Pass b : before)
      for (const Pass l : later)
        if (auto edges = edges_between(tensors_, chunks_[from].of(b), chunks_[to].of(l));
            !edges.empty())
          chunks_[to].saved.push_back({from, b, l, std::move(edges)});
  }

  bool split_, mixed_;
  const std::vector<StageSpan>& spans_;
  const std::vector<Tensor>& tensors_;
  std::vector<ChunkBlocks>& chunks_;
};

}  // namespace

RankBlocks rank_blocks(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                       const std::vector<GroupShapes>& shapes, const RankPlace& place,
                       CostCache& costs) {
  std::vector<Chunk> chunks = build_chunks(s.model, s.work, l, s.runtime, spans);
  if (l.partition.cuts()) partition_forward(s, l, place.first_shapes, costs, chunks);
  if (asks_backward_passes(l)) {
    const PassContext context{s, l, place.first_shapes, costs,
                              room_for_backward(s, l, place.stage, spans, chunks)};
    for (Chunk& chunk : chunks) apply_backward_passes(chunk, context);
  }
  RankBlocks out;
  const auto lowered = [&](std::string name, const OpGraph& graph, std::size_t k) {
    Block block = lower_block(std::move(name), graph, s.runtime, l, shapes[k], costs);
    if (!s.runtime.messages_apart) buffer_messages(s, l, spans, block);
    set_roles(l, static_cast<int>(k), block);
    return block;
  };
  out.optimizer = lowered("optimizer", chunks.back().optimizer, chunks.size() - 1);
  for (std::size_t k = 0; k < chunks.size(); ++k) {
    Chunk& chunk = chunks[k];
    const std::string of = chunks.size() == 1 ? "" : " chunk " + std::to_string(k);
    ChunkBlocks b;
    if (s.runtime.messages_apart) {
      const auto apart = [&](OpGraph& graph, Message receive, Message send) {
        PassAndMessages parts = without_messages(graph);
        graph = std::move(parts.pass);
        b.of(receive) = lowered("receive" + of, parts.receive, k);
        b.of(send) = lowered("send" + of, parts.send, k);
      };
      for (OpGraph* graph : {&chunk.forward, &chunk.first_forward})
        apart(*graph, Message::receive_forward, Message::send_forward);
      for (OpGraph* graph : {&chunk.backward, &chunk.last_backward})
        apart(*graph, Message::receive_backward, Message::send_backward);
    }
    const auto pass_block = [&](std::string name, const OpGraph& graph, EagerPass pass) {
      const bool eager = s.runtime.kernels == Kernels::torch_eager && l.pp > 1;
      return lowered(std::move(name), eager ? eager_pass(graph, pass, spans[k]) : graph, k);
    };
    b.of(Pass::forward) = pass_block("F" + of, chunk.forward, EagerPass::forward);
    b.of(Pass::first_forward) = pass_block("F first" + of, chunk.first_forward, EagerPass::forward);
    if (splits_backward(l.schedule)) {
      // PyTorch's first stage, whose input needs no gradient, has nothing to do before W.
      const bool late = s.runtime.messages_apart && spans[k].embedding;
      const auto split_of = [&](const OpGraph& graph) {
        return late ? BackwardBlocks{OpGraph(), graph} : split_backward(graph);
      };
      const BackwardBlocks usual = split_of(chunk.backward);
      const BackwardBlocks last = split_of(chunk.last_backward);
      const EagerPass weights = late ? EagerPass::whole_backward : EagerPass::weight_gradients;
      b.of(Pass::backward) = pass_block("B" + of, usual.data, EagerPass::data_gradients);
      b.of(Pass::last_backward) = pass_block("B last" + of, last.data, EagerPass::data_gradients);
      b.of(Pass::weight) = pass_block("W" + of, usual.weight, weights);
      b.of(Pass::last_weight) = pass_block("W last" + of, last.weight, weights);
      if (mixes_backward(l.schedule)) {
        b.of(Pass::whole) = pass_block("BW" + of, chunk.backward, EagerPass::whole_backward);
        b.of(Pass::last_whole) =
            pass_block("BW last" + of, chunk.last_backward, EagerPass::whole_backward);
      }
    } else {
      b.of(Pass::backward) = pass_block("B" + of, chunk.backward, EagerPass::whole_backward);
      b.of(Pass::last_backward) =
          pass_block("B last" + of, chunk.last_backward, EagerPass::whole_backward);
    }
    out.chunks.push_back(std::move(b));
  }
  // The last one's table holds the tensors of all chunks.
  const Chunk& table = chunks.back();
  Joining joining(l, spans, table.tensors, out.chunks);
  joining.place(table);
  place_tensors(table, {{&out.optimizer}});
  joining.join();
  for (ChunkBlocks& b : out.chunks)
    for (const Pass last : {Pass::last_backward, Pass::last_weight, Pass::last_whole})
      b.into_optimizer[static_cast<std::size_t>(last)] =
          edges_between(table.tensors, b.of(last), out.optimizer);
  out.tensors = std::move(chunks.back().tensors);
  return out;
}

}  // namespace steploom
