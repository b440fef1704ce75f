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
  void place() {
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
      place_tensors(tensors_, passes);
      if (mixed_)
        for (const std::size_t c : up) {
          whole.push_back(blocks(c, kWhole));
          sends.push_back(&chunks_[c].of(Message::send_backward));
        }
      place_tensors(tensors_, whole, sends);
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

// Graphs of a rank's chunks to blocks: passes, and messages where they are apart.
class Lowerer {
 public:
  Lowerer(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
          const std::vector<GroupShapes>& shapes, CostCache& costs)
      : s_(s), l_(l), spans_(spans), shapes_(shapes), costs_(costs) {}

  Block block(std::string name, const OpGraph& graph, std::size_t k) const {
    Block block = lower_block(std::move(name), graph, s_.runtime, l_, shapes_[k], costs_);
    if (!s_.runtime.messages_apart) buffer_messages(s_, l_, spans_, block);
    set_roles(l_, static_cast<int>(k), block);
    return block;
  }

  void forward(ChunkBlocks& b, std::size_t k, const OpGraph& usual, const OpGraph& first) const {
    const auto of = [&](const OpGraph& graph) {
      return without(graph, b, k, Message::receive_forward, Message::send_forward);
    };
    b.of(Pass::forward) = pass("F", of(usual), EagerPass::forward, k);
    b.of(Pass::first_forward) = pass("F first", of(first), EagerPass::forward, k);
  }

  void backward(ChunkBlocks& b, std::size_t k, const OpGraph& usual, const OpGraph& last) const {
    const auto of = [&](const OpGraph& graph) {
      return without(graph, b, k, Message::receive_backward, Message::send_backward);
    };
    parts(b, k, of(usual), "", Pass::backward, Pass::weight, Pass::whole);
    parts(b, k, of(last), " last", Pass::last_backward, Pass::last_weight, Pass::last_whole);
  }

 private:
  std::string of_chunk(std::size_t k) const {
    return spans_.size() == 1 ? "" : " chunk " + std::to_string(k);
  }

  Block pass(const std::string& name, const OpGraph& graph, EagerPass which, std::size_t k) const {
    const bool eager = s_.runtime.kernels == Kernels::torch_eager && l_.pp > 1;
    return block(name + of_chunk(k), eager ? eager_pass(graph, which, spans_[k]) : graph, k);
  }

  // The graph without its messages, which become blocks.
  OpGraph without(const OpGraph& graph, ChunkBlocks& b, std::size_t k, Message receive,
                  Message send) const {
    if (!s_.runtime.messages_apart) return graph;
    PassAndMessages parts = without_messages(graph);
    b.of(receive) = block("receive" + of_chunk(k), parts.receive, k);
    b.of(send) = block("send" + of_chunk(k), parts.send, k);
    return std::move(parts.pass);
  }

  void parts(ChunkBlocks& b, std::size_t k, const OpGraph& graph, const std::string& when,
             Pass data, Pass weight, Pass whole) const {
    if (!splits_backward(l_.schedule)) {
      b.of(data) = pass("B" + when, graph, EagerPass::whole_backward, k);
      return;
    }
    // PyTorch's first stage, whose input needs no gradient, has nothing to do before W.
    const bool late = s_.runtime.messages_apart && spans_[k].embedding;
    const BackwardBlocks apart = late ? BackwardBlocks{OpGraph(), graph} : split_backward(graph);
    b.of(data) = pass("B" + when, apart.data, EagerPass::data_gradients, k);
    b.of(weight) = pass("W" + when, apart.weight,
                        late ? EagerPass::whole_backward : EagerPass::weight_gradients, k);
    if (mixes_backward(l_.schedule))
      b.of(whole) = pass("BW" + when, graph, EagerPass::whole_backward, k);
  }

  const Setting& s_;
  const Layout& l_;
  const std::vector<StageSpan>& spans_;
  const std::vector<GroupShapes>& shapes_;
  CostCache& costs_;
};

void renumber(Block& block, const std::vector<TensorId>& numbers) {
  for (Access& a : block.body.accesses) a.tensor = numbers[a.tensor];
}

}  // namespace

const std::vector<Chunk>& BlockCache::chunks(const Setting& s, Key key) {
  key.layout.partition = {};
  key.layout.dw = WeightPlacement::none;
  key.layout.a2a_first = false;
  key.shapes.clear();
  key.first_shapes = {};
  key.type = key.first_type = 0;
  const auto [it, fresh] = chunks_.try_emplace(std::move(key));
  if (fresh)
    it->second = build_chunks(s.model, s.work, it->first.layout, s.runtime, it->first.spans);
  return it->second;
}

const BlockCache::ForwardPasses& BlockCache::forward(const Setting& s, Key key, CostCache& costs) {
  key.layout.dw = WeightPlacement::none;
  key.layout.a2a_first = false;
  const auto [it, fresh] = forward_.try_emplace(std::move(key));
  if (!fresh) return it->second;
  const Layout& l = it->first.layout;
  ForwardPasses& out = it->second;
  const std::vector<Chunk>& whole = chunks(s, it->first);
  std::vector<Chunk> cut;
  if (l.partition.cuts()) {
    for (const Chunk& c : whole)
      cut.push_back({c.tensors, {}, c.forward, c.first_forward, {}, {}, {}});
    const Setting first = s.of_type(it->first.first_type);
    out.numbers = partition_forward(first, l, it->first.first_shapes, costs.of(first.costs), cut);
  }
  const Setting own = s.of_type(it->first.type);
  const Lowerer lowered(own, l, it->first.spans, it->first.shapes, costs.of(own.costs));
  const std::vector<Chunk>& all = l.partition.cuts() ? cut : whole;
  for (std::size_t k = 0; k < all.size(); ++k)
    lowered.forward(out.chunks.emplace_back(), k, all[k].forward, all[k].first_forward);
  out.tensors = all.back().tensors;  // the last one's table holds those of all chunks
  return out;
}

const BlockCache::BackwardPasses& BlockCache::backward(const Setting& s, Key key, int stage,
                                                       CostCache& costs) {
  key.layout.partition = {};
  const auto [it, fresh] = backward_.try_emplace(std::move(key));
  if (!fresh) return it->second;
  const Layout& l = it->first.layout;
  BackwardPasses& out = it->second;
  const std::vector<Chunk>& all = chunks(s, it->first);
  const Setting own = s.of_type(it->first.type), first = s.of_type(it->first.first_type);
  const Lowerer lowered(own, l, it->first.spans, it->first.shapes, costs.of(own.costs));
  const bool passes = asks_backward_passes(l);
  const Bytes room = passes ? room_for_backward(first, l, stage, it->first.spans, all) : 0;
  for (std::size_t k = 0; k < all.size(); ++k) {
    ChunkBlocks& b = out.chunks.emplace_back();
    if (!passes) {
      lowered.backward(b, k, all[k].backward, all[k].last_backward);
      continue;
    }
    Chunk chunk{all[k].tensors, {}, {}, {}, all[k].backward, all[k].last_backward, {}};
    apply_backward_passes(chunk, {first, l, it->first.first_shapes, costs.of(first.costs), room});
    lowered.backward(b, k, chunk.backward, chunk.last_backward);
  }
  out.optimizer = lowered.block("optimizer", all.back().optimizer, all.size() - 1);
  return out;
}

RankBlocks BlockCache::rank_blocks(const Setting& s, const Layout& l,
                                   const std::vector<StageSpan>& spans,
                                   const std::vector<GroupShapes>& shapes, const RankPlace& place,
                                   CostCache& costs) {
  const Key key{l, spans, shapes, place.first_shapes, place.type, place.first_type};
  const ForwardPasses& f = forward(s, key, costs);
  const BackwardPasses& back = backward(s, key, place.stage, costs);
  RankBlocks out{back.chunks, back.optimizer, f.tensors};
  if (!f.numbers.empty()) {
    renumber(out.optimizer, f.numbers);
    for (ChunkBlocks& b : out.chunks) {
      for (Block& block : b.block) renumber(block, f.numbers);
      for (Block& block : b.message) renumber(block, f.numbers);
    }
  }
  for (std::size_t k = 0; k < spans.size(); ++k) {
    for (const Pass pass : kForward) out.chunks[k].of(pass) = f.chunks[k].of(pass);
    for (const Message message : {Message::receive_forward, Message::send_forward})
      out.chunks[k].of(message) = f.chunks[k].of(message);
  }
  Joining joining(l, spans, out.tensors, out.chunks);
  joining.place();
  place_tensors(out.tensors, {{&out.optimizer}});
  joining.join();
  for (ChunkBlocks& b : out.chunks)
    for (const Pass last : {Pass::last_backward, Pass::last_weight, Pass::last_whole})
      b.into_optimizer[static_cast<std::size_t>(last)] =
          edges_between(out.tensors, b.of(last), out.optimizer);
  return out;
}

RankBlocks rank_blocks(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                       const std::vector<GroupShapes>& shapes, const RankPlace& place,
                       CostCache& costs) {
  return BlockCache().rank_blocks(s, l, spans, shapes, place, costs);
}

}  // namespace steploom
