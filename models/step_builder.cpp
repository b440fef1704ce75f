// Once a step: gradient buckets beside the last backward pass, parameter gathers beside the first
// forward pass, and the optimizer.
//
// Megatron-Core's DistributedDataParallel: gradients are reduced bucket by bucket, in the order in
// which the backward pass completes them; a bucket closes when it holds at least
// max(40 M, 1 M · dp) elements. With ZeRO-1 (its distributed optimizer) a bucket is
// reduce-scattered and its parameters are all-gathered before they are next used. Experts have
// buckets of their own over the expert-data-parallel group.
#include <algorithm>
#include <cassert>
#include <limits>
#include <string>

#include "models/emitter.h"
#include "models/graph_rewriter.h"
#include "models/offloaded_experts.h"
#include "models/parameters.h"
#include "models/step_parts.h"

namespace steploom {
namespace {

std::int64_t per_rank(const Layout& l, const ParameterBuckets& p) {
  return p.sharded / l.tp + p.replicated;
}

std::int64_t experts_per_rank(const Layout& l, const ParameterBuckets& p) {
  return p.experts / (std::int64_t{l.etp} * l.ep);
}

std::int64_t table_elements(const ModelSpec& m, const Layout& l) {
  return padded_vocab(m.vocab, l.tp) / l.tp * m.table_width();
}

// Parameters outside the layers.
std::int64_t embedding_elements(const ModelSpec& m, const Layout& l) {
  return table_elements(m, l) + embedding_parameters(m).replicated;
}
std::int64_t head_table_elements(const ModelSpec& m, const Layout& l, const StageSpan& stage) {
  const bool own_table =
      !m.tied_embeddings || !stage.has_embedding_table();  // tied: a copy on the last stage
  return own_table ? table_elements(m, l) : 0;
}
// The copy of the embedding's table that multi-token prediction needs on the last stage.
std::int64_t token_table_elements(const ModelSpec& m, const Layout& l, const StageSpan& stage) {
  return m.mtp_modules > 0 && !stage.has_embedding_table() && !m.tied_embeddings
             ? table_elements(m, l)
             : 0;
}

}  // namespace

std::vector<Unit> units(const BuildContext& c, const StageSpan& stage, const Chunk& chunk) {
  std::vector<Unit> list;
  if (stage.embedding) list.push_back({-1, embedding_elements(c.model, c.layout), 0});
  for (int i = 0; i < stage.layers; ++i) {
    const int layer = stage.first_layer + i;
    const ParameterBuckets p = layer_parameters(c.model, layer);
    list.push_back({layer, per_rank(c.layout, p), experts_per_rank(c.layout, p)});
  }
  if (stage.head) {
    const int head = c.model.layers;
    list.push_back({head, head_table_elements(c.model, c.layout, stage) +
                              head_parameters(c.model).replicated});
    for (int module = 1; module <= c.model.mtp_modules; ++module) {
      const ParameterBuckets p = layer_parameters(c.model, head + module);
      const std::int64_t table = module == 1 ? token_table_elements(c.model, c.layout, stage) : 0;
      list.push_back({head + module, table + per_rank(c.layout, p), experts_per_rank(c.layout, p)});
    }
  }
  for (Unit& u : list)
    for (const LayerGradients& g : chunk.gradients)
      if (g.layer == u.layer) {
        u.dense_gradient = g.dense;
        u.expert_gradient = g.experts;
      }
  return list;
}

namespace {

// Consecutive units that are communicated together over one group.
struct Bucket {
  std::size_t first = 0, last = 0;  // indices into the unit list, in the order given
  std::int64_t elements = 0;
};

std::vector<Bucket> buckets(const std::vector<Unit>& list, std::int64_t Unit::*size,
                            std::int64_t least) {
  std::vector<Bucket> out;
  Bucket open;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (open.elements == 0) open.first = i;
    open.last = i;
    open.elements += list[i].*size;
    if (open.elements >= least || (i + 1 == list.size() && open.elements > 0)) {
      out.push_back(open);
      open = {};
    }
  }
  return out;
}

}  // namespace

std::vector<Family> families(const Layout& l) {
  std::vector<Family> out;
  if (l.dp_cp() > 1)
    out.push_back({&Unit::dense, &Unit::dense_gradient, CommGroup::dp, CommGroup::dp_outer,
                   StreamKind::dp, l.dp_shards(), "dense"});
  if (l.expert_dp() > 1)
    out.push_back({&Unit::experts, &Unit::expert_gradient, CommGroup::expert_dp,
                   CommGroup::expert_dp_outer, StreamKind::expert_dp, l.expert_shards(), "expert"});
  return out;
}

namespace {

// Megatron-Core cuts chunks after a rank's first into no buckets (distributed_data_parallel.py,
// disable_bucketing).
std::int64_t least_bucket(const BuildContext& c, const StageSpan& stage, int ranks) {
  const Runtime& r = c.runtime;
  if (c.layout.bucket > 0) return c.layout.bucket;
  if (stage.chunk > 0) return std::numeric_limits<std::int64_t>::max();
  return std::max(r.bucket_elements, r.bucket_elements_per_rank * ranks);
}

// Buckets in which parameters are gathered. Executed, they are those of the gradients: a rank
// updates its part of a bucket and gathers the others' parts of the same one.
std::vector<Bucket> parameter_buckets(const BuildContext& c, const StageSpan& stage,
                                      const std::vector<Unit>& list, const Family& f) {
  const std::int64_t least = least_bucket(c, stage, f.ranks);
  if (!c.runtime.complete_operands) return buckets(list, f.size, least);
  const std::vector<Unit> backward(list.rbegin(), list.rend());
  std::vector<Bucket> out = buckets(backward, f.size, least);
  std::reverse(out.begin(), out.end());
  for (Bucket& b : out) {
    const std::size_t first = list.size() - 1 - b.last;
    b.last = list.size() - 1 - b.first;
    b.first = first;
    while (list[b.first].*f.size == 0) ++b.first;
  }
  return out;
}

}  // namespace

OpNode collective_node(std::string name, OpKind kind, Phase phase, CommGroup group,
                       StreamKind stream, Bytes bytes) {
  OpNode node;
  node.name = std::move(name);
  node.work = communication(kind, phase, bytes);
  node.group = group;
  node.stream = stream;
  return node;
}

OpNode between_copies(const OpNode& scatter, const Family& f) {
  OpNode node = scatter;
  node.name += " between copies";
  node.work = communication(OpKind::all_reduce, scatter.work.phase, scatter.work.bytes / f.ranks);
  node.group = f.outer;
  node.reads = node.writes;
  return node;
}

std::int64_t position(const OpGraph& g, int layer, bool last) {
  std::int64_t found = -1;
  for (OpId op = 0; op < g.size(); ++op)
    if (g.node(op).layer == layer && g.node(op).stream == StreamKind::compute) {
      found = op;
      if (!last) break;
    }
  return found;
}

namespace {

// One of the equal parts of a gradient collective (Lina's micro-operators, Layout::grad_micro).
OpNode part_of(OpNode bucket, int part, int parts) {
  if (parts == 1) return bucket;
  bucket.name += " part " + std::to_string(part);
  bucket.work = communication(bucket.work.kind, bucket.work.phase, bucket.work.bytes / parts);
  bucket.parts = parts;
  bucket.part = part;
  return bucket;
}

}  // namespace

OpGraph with_gradient_buckets(const BuildContext& c, const StageSpan& stage, Chunk& chunk,
                              const OpGraph& backward) {
  std::vector<Unit> list = units(c, stage, chunk);
  std::reverse(list.begin(), list.end());
  struct Insertion {
    std::int64_t after;
    OpNode node;
  };
  std::vector<Insertion> insertions;
  for (const Family& f : families(c.layout)) {
    int number = 0;
    for (const Bucket& b : buckets(list, f.size, least_bucket(c, stage, f.ranks))) {
      const bool scatter = c.layout.zero > 0;
      OpNode node =
          collective_node(std::string(f.name) + " gradient bucket " + std::to_string(number++),
                          scatter ? OpKind::reduce_scatter : OpKind::all_reduce, Phase::weight_grad,
                          f.group, f.stream, b.elements * c.runtime.grad_bytes);
      std::int64_t after = static_cast<std::int64_t>(backward.size()) - 1;
      if (c.runtime.overlap_grad_reduce) {
        after = -1;
        for (std::size_t i = b.first; i <= b.last; ++i)
          after = std::max(after, position(backward, list[i].layer, true));
      }
      for (std::size_t i = b.first; i <= b.last; ++i)
        if (list[i].*f.gradient != kNoTensor) node.reads.push_back(list[i].*f.gradient);
      node.writes = node.reads;
      node.layer = list[b.last].layer;
      const int parts = c.layout.gradient_parts(b.elements, f.ranks, c.runtime.grad_bytes);
      for (int part = 0; part < parts; ++part) {
        OpNode one = part_of(node, part, parts);
        OpNode between = between_copies(one, f);
        if (f.ranks > 1) insertions.push_back({after, std::move(one)});
        if (c.layout.replicate > 1) insertions.push_back({after, std::move(between)});
      }
    }
  }
  std::stable_sort(insertions.begin(), insertions.end(),
                   [](const Insertion& a, const Insertion& b) { return a.after < b.after; });
  GraphRewriter out(backward);
  std::size_t next = 0;
  for (OpId op = 0; op < backward.size(); ++op) {
    out.copy(op);
    while (next < insertions.size() && insertions[next].after == static_cast<std::int64_t>(op))
      out.add(std::move(insertions[next++].node));
  }
  assert(next == insertions.size());
  return out.take();
}

OpGraph with_parameter_gathers(const BuildContext& c, const StageSpan& stage, Chunk& chunk,
                               const OpGraph& forward) {
  if (c.layout.zero == 0 || !c.runtime.overlap_param_gather) return forward;
  const std::vector<Unit> list = units(c, stage, chunk);
  struct Gather {
    OpNode node;
    OpId before;  // the first operator that needs it
    TensorId parameters;
  };
  std::vector<Gather> gathers;
  for (const Family& f : families(c.layout)) {
    if (f.ranks == 1) continue;
    int number = 0;
    for (const Bucket& b : parameter_buckets(c, stage, list, f)) {
      OpNode node =
          collective_node(std::string(f.name) + " parameter bucket " + std::to_string(number++),
                          OpKind::all_gather, Phase::forward, f.group, f.stream, b.elements * c.e);
      chunk.tensors.push_back({node.name, 0, TensorScope::step});
      const auto t = static_cast<TensorId>(chunk.tensors.size() - 1);
      node.writes = {t};
      node.layer = list[b.first].layer;
      const std::int64_t first = position(forward, list[b.first].layer, false);
      assert(first >= 0);
      gathers.push_back({std::move(node), static_cast<OpId>(first), t});
    }
  }
  // A bucket is requested when the one before it is first used, the first of each family at once.
  std::stable_sort(gathers.begin(), gathers.end(),
                   [](const Gather& a, const Gather& b) { return a.before < b.before; });
  std::vector<OpId> issue_at(gathers.size(), 0);
  for (std::size_t i = 0; i < gathers.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (gathers[j].node.group == gathers[i].node.group) issue_at[i] = gathers[j].before;
  GraphRewriter out(forward);
  std::vector<OpId> issued(gathers.size());
  std::size_t next = 0;
  for (OpId op = 0; op < forward.size(); ++op) {
    for (; next < gathers.size() && issue_at[next] <= op; ++next)
      issued[next] = out.add(gathers[next].node);
    const OpId copied = out.copy(op);
    for (std::size_t i = 0; i < next; ++i)
      if (gathers[i].before == op) out.depend(issued[i], copied, gathers[i].parameters);
  }
  return out.take();
}

OpGraph optimizer_graph(const BuildContext& c, const std::vector<StageSpan>& spans, Chunk& chunk) {
  const StageParameters p = parameters_of(c.model, c.layout, spans);
  const Bytes g = c.runtime.grad_bytes;
  const bool shard = c.layout.zero > 0;
  const bool offloaded = c.layout.offload == Offload::experts;
  const bool left = gradients_leave(c.layout, c.work.global_batch);
  const std::int64_t dense = p.dense() / (shard ? c.layout.dp_shards() : 1);
  const std::int64_t experts = p.experts / (shard ? c.layout.expert_shards() : 1);
  const std::int64_t own = dense + (offloaded ? 0 : experts);  // updated where they are
  const std::int64_t squared = dense + (left ? 0 : experts);
  OpGraph graph;
  Emitter out(c, chunk, graph);
  std::vector<TensorId> gradients;
  for (const LayerGradients& l : chunk.gradients)
    for (const TensorId t : {l.dense, l.experts})
      if (t != kNoTensor) gradients.push_back(t);
  const auto reduce = [&](std::string name, CommGroup group, StreamKind stream, Bytes bytes) {
    OpNode node = collective_node(std::move(name), OpKind::all_reduce, Phase::optimizer, group,
                                  stream, bytes);
    node.reads = gradients;
    node.writes = gradients;
    out.op(std::move(node));
  };
  if (c.layout.sp) reduce("replicated gradients", CommGroup::tp, StreamKind::tp, p.replicated * g);
  if (std::any_of(spans.begin(), spans.end(), [&c](const StageSpan& stage) {
        return shares_embedding(c.model, c.layout, stage);
      }))
    reduce("tied embedding gradient", CommGroup::embedding, StreamKind::dp,
           table_elements(c.model, c.layout) * g);

  const TensorId norm = out.tensor("gradient norm", 4, TensorScope::step);
  OpNode squares;
  squares.name = "gradient norm";
  squares.work =
      streaming(OpKind::grad_norm, Phase::optimizer, c.work.precision, squared, 1, squared * g);
  squares.reads = gradients;
  squares.writes = {norm};
  out.op(std::move(squares));
  if (c.layout.devices() > 1)
    out.in_place("gradient norm sum", OpKind::all_reduce, CommGroup::world, StreamKind::dp,
                 Phase::optimizer, 4, norm);

  // What it reads and writes: optimizer.h.
  const Keeping keeping{c.work.precision, c.runtime.master_weights};
  const TensorId parameters = out.tensor("parameters", 0, TensorScope::step);
  OpNode adam;
  adam.name = name_of(c.work.optimizer);
  adam.work = streaming(OpKind::adam, Phase::optimizer, c.work.precision, own, 1,
                        own * moved_bytes(c.work.optimizer, keeping, g));
  adam.reads = gradients;
  adam.reads.push_back(norm);
  adam.writes = {parameters};
  if (const Bytes held = scratch_bytes(c.work.optimizer, keeping); held > 0)
    adam.writes.push_back(out.tensor("optimizer scratch", own * held));
  out.op(std::move(adam));
  if (offloaded) update_offloaded(out, spans, chunk, norm);
  if (operand_bytes(c.products) < c.e) {
    // The products' weights for the next step, as they are and transposed.
    OpNode cast;
    cast.name = "weights cast";
    cast.work = streaming(OpKind::residual, Phase::optimizer, c.work.precision, p.total(), 1,
                          p.total() * (c.e + 2));
    cast.reads = {parameters};
    cast.writes = {parameters};
    out.op(std::move(cast));
  }
  OpNode zero;
  zero.name = "zero gradients";
  const Bytes held = (c.layout.zero > 1 ? own : p.total() - (left ? p.experts : 0)) * g;
  zero.work = streaming(OpKind::zero_fill, Phase::optimizer, c.work.precision, held, 1, held);
  zero.writes = gradients;
  out.op(std::move(zero));
  if (shard && c.layout.zero < 3 && !c.runtime.overlap_param_gather)
    for (const Family& f : families(c.layout)) {
      const std::int64_t elements = f.group == CommGroup::dp ? p.dense() : p.experts;
      if (elements > 0 && f.ranks > 1)
        out.in_place(std::string(f.name) + " parameters", OpKind::all_gather, f.group, f.stream,
                     Phase::optimizer, elements * c.e, parameters);
    }
  return graph;
}

bool shares_embedding(const ModelSpec& m, const Layout& l, const StageSpan& stage) {
  return m.embedding_at_both_ends() && l.pp > 1 && !in_a_v(l.schedule) &&
         (stage.embedding || stage.head);
}

StageParameters& StageParameters::operator+=(const StageParameters& o) {
  sharded += o.sharded;
  replicated += o.replicated;
  experts += o.experts;
  return *this;
}

StageParameters parameters_of(const ModelSpec& m, const Layout& l,
                              const std::vector<StageSpan>& spans) {
  StageParameters p;
  for (const StageSpan& span : spans) p += stage_parameters(m, l, span);
  return p;
}

StageParameters stage_parameters(const ModelSpec& m, const Layout& l, const StageSpan& stage) {
  StageParameters p;
  const auto add_layer = [&](int layer) {
    const ParameterBuckets b = layer_parameters(m, layer);
    p.sharded += b.sharded / l.tp;
    p.replicated += b.replicated;
    p.experts += experts_per_rank(l, b);
  };
  for (int i = 0; i < stage.layers; ++i) add_layer(stage.first_layer + i);
  if (stage.embedding) {
    p.sharded += table_elements(m, l);
    p.replicated += embedding_parameters(m).replicated;
  }
  if (stage.head) {
    p.replicated += head_parameters(m).replicated;
    p.sharded += head_table_elements(m, l, stage) + token_table_elements(m, l, stage);
    for (int module = 1; module <= m.mtp_modules; ++module) add_layer(m.layers + module);
  }
  return p;
}

}  // namespace steploom
