#include "planner/rank_blocks.h"

#include <string>
#include <utility>

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

// With the messages of its rank.
class Lowerer {
 public:
  Lowerer(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
          const GroupShapes& shapes, CostCache& costs)
      : s_(s), l_(l), spans_(spans), shapes_(shapes), costs_(costs) {}

  Block operator()(const std::string& pass, std::size_t chunk, const OpGraph& graph) const {
    const std::string of = spans_.size() == 1 ? "" : " chunk " + std::to_string(chunk);
    Block block = lower_block(pass + of, graph, s_.runtime, l_, shapes_, costs_);
    buffer_messages(s_, l_, spans_, block);
    return block;
  }

 private:
  const Setting& s_;
  const Layout& l_;
  const std::vector<StageSpan>& spans_;
  const GroupShapes& shapes_;
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
  key.shapes = key.first_shapes = {};
  const auto [it, fresh] = chunks_.try_emplace(std::move(key));
  if (fresh)
    it->second = build_chunks(s.model, s.work, it->first.layout, s.runtime, it->first.spans);
  return it->second;
}

const BlockCache::ForwardBlocks& BlockCache::forward(const Setting& s, Key key, CostCache& costs) {
  key.layout.dw = WeightPlacement::none;
  key.layout.a2a_first = false;
  const auto [it, fresh] = forward_.try_emplace(std::move(key));
  if (!fresh) return it->second;
  const Layout& l = it->first.layout;
  ForwardBlocks& out = it->second;
  const std::vector<Chunk>& whole = chunks(s, it->first);
  std::vector<Chunk> cut;
  if (l.partition.cuts()) {
    for (const Chunk& c : whole)
      cut.push_back({c.tensors, {}, c.forward, c.first_forward, {}, {}, {}});
    out.numbers = partition_forward(s, l, it->first.first_shapes, costs, cut);
  }
  const Lowerer lowered(s, l, it->first.spans, it->first.shapes, costs);
  const std::vector<Chunk>& all = l.partition.cuts() ? cut : whole;
  for (std::size_t k = 0; k < all.size(); ++k) {
    out.usual.push_back(lowered("F", k, all[k].forward));
    out.first.push_back(lowered("F first", k, all[k].first_forward));
    out.tensors.push_back(all[k].tensors);
  }
  return out;
}

const BlockCache::BackwardBlocks& BlockCache::backward(const Setting& s, Key key, int stage,
                                                       CostCache& costs) {
  key.layout.partition = {};
  const auto [it, fresh] = backward_.try_emplace(std::move(key));
  if (!fresh) return it->second;
  const Layout& l = it->first.layout;
  BackwardBlocks& out = it->second;
  const std::vector<Chunk>& all = chunks(s, it->first);
  const Lowerer lowered(s, l, it->first.spans, it->first.shapes, costs);
  const auto add = [&](ChunkBlocks& b, std::size_t k, const OpGraph& usual, const OpGraph& last) {
    if (!splits_backward(l.schedule)) {
      b.of(Pass::backward) = lowered("B", k, usual);
      b.of(Pass::last_backward) = lowered("B last", k, last);
      return;
    }
    const steploom::BackwardBlocks parts = split_backward(usual), last_parts = split_backward(last);
    b.of(Pass::backward) = lowered("B", k, parts.data);
    b.of(Pass::last_backward) = lowered("B last", k, last_parts.data);
    b.of(Pass::weight) = lowered("W", k, parts.weight);
    b.of(Pass::last_weight) = lowered("W last", k, last_parts.weight);
  };
  const bool passes = asks_backward_passes(l);
  const Bytes room = passes ? room_for_backward(s, l, stage, it->first.spans, all) : 0;
  for (std::size_t k = 0; k < all.size(); ++k) {
    out.chunks.emplace_back();
    if (!passes) {
      add(out.chunks.back(), k, all[k].backward, all[k].last_backward);
      continue;
    }
    Chunk chunk{all[k].tensors, {}, {}, {}, all[k].backward, all[k].last_backward, {}};
    apply_backward_passes(chunk, {s, l, it->first.first_shapes, costs, room});
    add(out.chunks.back(), k, chunk.backward, chunk.last_backward);
  }
  out.optimizer =
      lower_block("optimizer", all.back().optimizer, s.runtime, l, it->first.shapes, costs);
  buffer_messages(s, l, it->first.spans, out.optimizer);
  return out;
}

RankBlocks BlockCache::rank_blocks(const Setting& s, const Layout& l,
                                   const std::vector<StageSpan>& spans, const GroupShapes& shapes,
                                   const RankPlace& place, CostCache& costs) {
  const Key key{l, spans, shapes, place.first_shapes};
  const ForwardBlocks& f = forward(s, key, costs);
  const BackwardBlocks& back = backward(s, key, place.stage, costs);
  const bool split = splits_backward(l.schedule);
  RankBlocks out;
  out.optimizer = back.optimizer;
  if (!f.numbers.empty()) renumber(out.optimizer, f.numbers);
  const std::vector<Tensor>& all = f.tensors.back();
  for (std::size_t k = 0; k < spans.size(); ++k) {
    ChunkBlocks b = back.chunks[k];
    if (!f.numbers.empty())
      for (Block& block : b.block) renumber(block, f.numbers);
    b.of(Pass::forward) = f.usual[k];
    b.of(Pass::first_forward) = f.first[k];
    std::vector<std::vector<Block*>> passes{{&b.of(Pass::forward), &b.of(Pass::first_forward)},
                                            {&b.of(Pass::backward), &b.of(Pass::last_backward)}};
    if (split) passes.push_back({&b.of(Pass::weight), &b.of(Pass::last_weight)});
    if (k + 1 == spans.size()) passes.back().push_back(&out.optimizer);
    place_tensors(f.tensors[k], passes);
    const auto join = [&](Pass from, Pass to) {
      b.saved.push_back({from, to, edges_between(f.tensors[k], b.of(from), b.of(to))});
    };
    for (const Pass forward : {Pass::forward, Pass::first_forward})
      for (const Pass backward : {Pass::backward, Pass::last_backward}) join(forward, backward);
    // The optimizer's tensors are in the last chunk's table, which holds those of all chunks.
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
  out.tensors = all;
  return out;
}

RankBlocks rank_blocks(const Setting& s, const Layout& l, const std::vector<StageSpan>& spans,
                       const GroupShapes& shapes, const RankPlace& place, CostCache& costs) {
  return BlockCache().rank_blocks(s, l, spans, shapes, place, costs);
}

}  // namespace steploom
