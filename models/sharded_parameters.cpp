// ZeRO-2 and ZeRO-3 (Rajbhandari et al., arXiv 1910.02054), as PyTorch's FSDP2 and Megatron-FSDP
// run them, a unit (a layer, the embedding, the head) at a time.
//
// Gradients: each backward pass reduce-scatters a unit's gradients when its last operator has
// written them; the whole gradients live from their first writer to there, the shards through the
// step. Parameters (ZeRO-3): a unit is gathered on a stream of its own when the unit before it
// begins, one ahead, and freed after its last use in the pass; the backward pass gathers it again
// in its own order. With reshard=0, and for the head, which the backward pass begins with, what the
// forward pass gathered is kept for the backward pass. The embedding's backward pass reads no
// parameters.
//
// Under a pipeline (FSDP2 in torch.distributed.pipelining, stage.py,
// backward_maybe_with_nosync): gradients add up whole and are reduce-scattered unit by unit when
// the chunk's last backward pass has ended. With reshard=0 (torchtitan's choice for pipelines,
// get_fsdp_reshard_after_forward_policy) the chunk's first forward pass gathers its parameters,
// which stay until then: fixed memory, as the gradients are (memory_parts.h). With reshard=1 every
// pass gathers what it uses, the head's too, which other micro-batches' forward passes part from
// its backward pass. (PyTorch gathers less: a forward pass finds what a backward pass before it on
// the same chunk has left.)
#include <algorithm>
#include <cassert>
#include <string>
#include <utility>

#include "models/graph_rewriter.h"
#include "models/step_parts.h"

namespace steploom {
namespace {

std::string unit_name(const BuildContext& c, const Unit& u) {
  if (u.layer < 0) return "embedding";
  if (u.layer == c.model.layers) return "head";
  return (u.layer < c.model.layers ? "layer " : "prediction ") + std::to_string(u.layer);
}

// Parameters of one unit and family, and the operators of a pass that use them.
struct Gather {
  OpNode node;        // the collective
  bool kept = false;  // they are there already
  OpId first = 0, last = 0;
  TensorId parameters = kNoTensor;
};

// The pass with its gathers: the first unit's at once, another's when the unit before is first
// used.
OpGraph with_gathers(const OpGraph& pass, std::vector<Gather> gathers) {
  std::stable_sort(gathers.begin(), gathers.end(),
                   [](const Gather& a, const Gather& b) { return a.first < b.first; });
  GraphRewriter out(pass);
  std::size_t next = 0;
  OpId issue_at = 0;  // of the next
  for (OpId op = 0; op < pass.size(); ++op) {
    while (next < gathers.size() && issue_at <= op) {
      // What a unit has over two groups is asked for together.
      issue_at = gathers[next].first;
      for (; next < gathers.size() && gathers[next].first == issue_at; ++next)
        if (!gathers[next].kept) out.add(gathers[next].node);
    }
    std::vector<TensorId> used;
    for (const Gather& g : gathers)
      if (g.first == op || g.last == op) used.push_back(g.parameters);
    out.copy_reading(op, used);
  }
  assert(next == gathers.size());
  return out.take();
}

struct Scatter {
  std::int64_t after;  // an operator of the backward pass
  OpNode node;
};

OpGraph with_scatters(const OpGraph& backward, const std::vector<Scatter>& scatters) {
  GraphRewriter out(backward);
  std::size_t next = 0;
  for (OpId op = 0; op < backward.size(); ++op) {
    out.copy(op);
    for (; next < scatters.size() && scatters[next].after == static_cast<std::int64_t>(op); ++next)
      out.add(scatters[next].node);
  }
  assert(next == scatters.size());
  return out.take();
}

}  // namespace

void shard_gradients(const BuildContext& c, const StageSpan& stage, Chunk& chunk) {
  std::vector<Scatter> each, last;
  for (const Family& f : families(c.layout))
    for (const Unit& u : units(c, stage, chunk)) {
      const TensorId whole = u.*f.gradient;
      if (u.*f.size == 0 || whole == kNoTensor) continue;
      const Bytes bytes = u.*f.size * c.runtime.grad_bytes;
      const bool once = c.layout.pp > 1;
      const std::int64_t after = once ? static_cast<std::int64_t>(chunk.backward.size()) - 1
                                      : position(chunk.backward, u.layer, true);
      if (f.ranks == 1) {  // every copy has them whole
        OpNode node =
            collective_node(unit_name(c, u) + " " + f.name + " gradients", OpKind::all_reduce,
                            Phase::weight_grad, f.outer, f.stream, bytes);
        node.reads = node.writes = {whole};
        node.layer = u.layer;
        last.push_back({after, std::move(node)});
        continue;
      }
      OpNode node =
          collective_node(unit_name(c, u) + " " + f.name + " gradients", OpKind::reduce_scatter,
                          Phase::weight_grad, f.group, f.stream, bytes);
      node.layer = u.layer;
      if (once) {
        node.reads = node.writes = {whole};
        last.push_back({after, node});
        if (c.layout.replicate > 1) last.push_back({after, between_copies(node, f)});
        continue;
      }
      chunk.tensors[whole].bytes = bytes;
      chunk.tensors[whole].scope = TensorScope::micro_batch;
      chunk.tensors.push_back({node.name + " shard", 0, TensorScope::step});
      const auto shard = static_cast<TensorId>(chunk.tensors.size() - 1);
      node.reads = {whole};
      node.writes = {shard};
      each.push_back({after, node});
      last.push_back({after, node});
      if (c.layout.replicate > 1) last.push_back({after, between_copies(node, f)});
      for (LayerGradients& g : chunk.gradients)
        if (g.layer == u.layer) (f.group == CommGroup::dp ? g.dense : g.experts) = shard;
    }
  for (std::vector<Scatter>* list : {&each, &last})
    std::stable_sort(list->begin(), list->end(),
                     [](const Scatter& a, const Scatter& b) { return a.after < b.after; });
  chunk.last_backward = with_scatters(chunk.backward, last);
  chunk.backward = with_scatters(chunk.backward, each);
}

void gather_parameters(const BuildContext& c, const StageSpan& stage, Chunk& chunk) {
  std::vector<Gather> forward, first, backward;
  for (const Family& f : families(c.layout))
    for (const Unit& u : units(c, stage, chunk)) {
      const Bytes bytes = u.*f.size * c.e;
      if (bytes == 0 || f.ranks == 1) continue;
      const auto used = [&](const OpGraph& pass, Phase phase) {
        Gather g;
        g.node = collective_node(unit_name(c, u) + " " + f.name + " parameters", OpKind::all_gather,
                                 phase, f.group, StreamKind::gather, bytes);
        g.node.layer = u.layer;
        g.first = static_cast<OpId>(position(pass, u.layer, false));
        g.last = static_cast<OpId>(position(pass, u.layer, true));
        return g;
      };
      const auto into_new = [&](Gather& g, TensorScope scope) {
        chunk.tensors.push_back({g.node.name, scope == TensorScope::step ? 0 : bytes, scope});
        g.parameters = static_cast<TensorId>(chunk.tensors.size() - 1);
        g.node.writes = {g.parameters};
      };
      const bool piped = c.layout.pp > 1;
      const bool stays = piped && !c.layout.reshard;
      first.push_back(used(chunk.forward, Phase::forward));
      into_new(first.back(), stays ? TensorScope::step : TensorScope::micro_batch);
      if (stays) continue;
      forward.push_back(first.back());
      if (u.layer < 0) continue;
      Gather again = used(chunk.backward, Phase::data_grad);
      again.kept = !c.layout.reshard || (u.layer == c.model.layers && !piped);
      if (again.kept)
        again.parameters = forward.back().parameters;
      else
        into_new(again, TensorScope::micro_batch);
      backward.push_back(std::move(again));
    }
  chunk.first_forward = with_gathers(chunk.forward, std::move(first));
  chunk.forward = with_gathers(chunk.forward, std::move(forward));
  chunk.backward = with_gathers(chunk.backward, std::move(backward));
}

}  // namespace steploom
