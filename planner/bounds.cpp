#include "planner/bounds.h"

#include <algorithm>
#include <array>
#include <vector>

#include "models/chunk_builder.h"
#include "models/shapes.h"
#include "planner/block.h"
#include "planner/memory_parts.h"
#include "planner/ranks.h"
#include "sim/flat_program.h"

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::size_t>(StreamKind::compute);

// Longest path to the end of the last compute operator, over the operators that start only after
// something on stream `from`: its other operators may have run before. From compute it is the span,
// from pp_recv the passage. Gaps count between these operators, not before the first: whether a
// block before it makes one is another block's affair.
Picoseconds longest_from(const Block& b, StreamKind from) {
  const auto origin = static_cast<std::size_t>(from);
  std::vector<Picoseconds> end(b.body.ops.size(), 0);
  std::array<Picoseconds, kStreamKinds> stream;
  stream.fill(kNothingBefore);
  Picoseconds last = 0;
  for (std::size_t i = 0; i < b.body.ops.size(); ++i) {
    const OpTemplate& op = b.body.ops[i];
    const bool starts_it = origin == kCompute && op.stream == kCompute;
    if (!starts_it && b.known[i][origin] == 0) continue;
    Picoseconds start = std::max<Picoseconds>(0, stream[op.stream] + op.stream_gap);
    for (std::uint32_t d = 0; d < op.deps; ++d) {
      const std::uint32_t from = b.body.deps[op.first_dep + d];
      if (end[from] > 0) start = std::max(start, end[from] + op.event_latency);
    }
    end[i] = stream[op.stream] = start + op.duration;
    if (op.stream == kCompute) last = end[i];
  }
  return last;
}

Bytes saved_bytes(const Chunk& chunk) {
  std::vector<int> state(chunk.tensors.size(), 0);  // 1: written forward, 2: read backward too
  for (OpId op = 0; op < chunk.forward.size(); ++op)
    for (const TensorId t : chunk.forward.node(op).writes) state[owner_of(chunk.tensors, t)] = 1;
  Bytes total = 0;
  for (OpId op = 0; op < chunk.backward.size(); ++op)
    for (const TensorId read : chunk.backward.node(op).reads) {
      const TensorId t = owner_of(chunk.tensors, read);
      if (state[t] != 1 || chunk.tensors[t].scope != TensorScope::micro_batch) continue;
      state[t] = 2;
      total += chunk.tensors[t].bytes;
    }
  return total;
}

}  // namespace

BoundModel::Digest BoundModel::measure(Part part, Kind kind, const Layout& l) {
  const auto built = [&] {
    if (part == Part::embedding)
      return build_chunk(s_.model, s_.work, l, s_.runtime, {0, 0, true, false, false, true});
    if (part == Part::head)
      return build_chunk(s_.model, s_.work, l, s_.runtime, {0, 0, false, true, true, false});
    int layer = 0;
    const auto alike = [&](Kind k) {
      return (part == Part::attention || k.experts == kind.experts) &&
             (part == Part::feed_forward || k.local == kind.local);
    };
    while (!alike(kind_of(layer))) ++layer;
    // Neighbours on both sides, so that the input comes from outside, as it does in a longer stage.
    if (part == Part::layer)
      return build_chunk(s_.model, s_.work, l, s_.runtime, {layer, 1, false, false, true, true});
    return build_part(s_.model, s_.work, l, s_.runtime, layer,
                      part == Part::attention ? LayerPart::attention : LayerPart::feed_forward);
  };
  GroupShapes shapes{};
  const auto set = [&](CommGroup g, int stride, int count) {
    shapes[static_cast<std::size_t>(g)] = strided_shape(s_.cluster, 0, stride, count);
  };
  set(CommGroup::tp, 1, l.tp);
  set(CommGroup::cp, l.tp, l.cp);
  set(CommGroup::etp, 1, l.etp);
  set(CommGroup::ep, l.etp, l.ep);
  const Chunk chunk = built();
  const Block f = lower_block("F", chunk.forward, s_.runtime, l, shapes, costs_);
  const Block b = lower_block("B", chunk.backward, s_.runtime, l, shapes, costs_);
  Digest d;
  d.forward = longest_from(f, StreamKind::compute);
  d.backward = longest_from(b, StreamKind::compute);
  // The first stage makes its input itself.
  d.forward_passage = part == Part::embedding ? d.forward : longest_from(f, StreamKind::pp_recv);
  d.backward_passage = longest_from(b, StreamKind::pp_recv);
  d.saved = saved_bytes(chunk);
  return d;
}

const BoundModel::Digest& BoundModel::digest(Part part, Kind kind, const Layout& l) {
  Key key{part, kind, 0, l};
  Layout& as = key.layout;
  // Nothing here depends on pipeline, data parallelism or ZeRO.
  as.pp = as.vpp = as.dp = 1;
  as.vpp_group = as.zero = 0;
  as.reshard = true;
  as.replicate = 1;
  as.stages.clear();
  const bool attends = part == Part::layer || part == Part::attention ||
                       (part == Part::head && s_.model.mtp_modules > 0);
  const bool experts = part == Part::head ? s_.model.mtp_modules > 0 && s_.model.has_moe()
                                          : part != Part::embedding && kind.experts;
  if (!experts || part == Part::attention) as.ep = as.etp = as.chunks = 1;
  if (part == Part::attention) key.kind.experts = false;
  if (part == Part::feed_forward) key.kind.local = false;
  const Layout built = as;
  if (!attends) {
    key.tokens = tokens_of_rank(s_.work, l);
    as.cp = 1;
    as.cp_comm = ContextComm::p2p;
    as.micro_batch = 0;
  }
  const auto it = known_.find(key);
  if (it != known_.end()) return it->second;
  return known_.emplace(std::move(key), measure(part, kind, built)).first->second;
}

// The halves of a layer follow each other on the compute stream, the second's input made by the
// first: from the end of the first it takes at least its span, and its passage.
BoundModel::Digest BoundModel::layer(Kind kind, const Layout& l) {
  if (l.recompute == Recompute::selective) return digest(Part::layer, kind, l);
  const Digest& a = digest(Part::attention, kind, l);
  const Digest& f = digest(Part::feed_forward, kind, l);
  return {a.forward + std::max(f.forward, f.forward_passage),
          f.backward + std::max(a.backward, a.backward_passage),
          a.forward_passage + f.forward_passage, a.backward_passage + f.backward_passage,
          a.saved + f.saved};
}

BoundModel::Digest BoundModel::layers(const Layout& l, int first, int count) {
  Digest sum;
  std::array<std::int64_t, 4> alike{};
  for (int i = 0; i < count; ++i) {
    const Kind k = kind_of(first + i);
    ++alike[(k.local ? 2U : 0U) + (k.experts ? 1U : 0U)];
  }
  for (std::size_t i = 0; i < alike.size(); ++i) {
    if (alike[i] == 0) continue;
    if (!layer_[i]) layer_[i] = layer({i % 2 == 1, i >= 2}, l);
    const Digest& d = *layer_[i];
    sum.forward += d.forward * alike[i];
    sum.backward += d.backward * alike[i];
    sum.forward_passage += d.forward_passage * alike[i];
    sum.backward_passage += d.backward_passage * alike[i];
    sum.saved += d.saved * alike[i];
  }
  return sum;
}

Picoseconds BoundModel::optimizer(const Layout& l) {
  const StageParameters p = parameters_of(s_.model, l, rank_spans(s_.model, l, 0));
  const bool shard = l.zero > 0;
  const std::int64_t own =
      p.dense() / (shard ? l.dp_shards() : 1) + p.experts / (shard ? l.expert_shards() : 1);
  const std::int64_t held = l.zero > 1 ? own : p.total();
  const Bytes g = s_.runtime.grad_bytes;
  const auto kernel = [&](OpKind kind, std::int64_t n, Bytes bytes) {
    return costs_
        .cost({streaming(kind, Phase::optimizer, stored_precision(s_.work.precision), n, 1, bytes),
               GroupShape{}, 0})
        .time;
  };
  return kernel(OpKind::grad_norm, own, own * g) +
         kernel(OpKind::adam, own, own * moved_bytes(s_.work.optimizer, s_.work.precision, g)) +
         kernel(OpKind::zero_fill, held * g, held * g);
}

// What ZeRO-2 and 3 put on one stream in a step: a stream runs one collective at a time. Layers
// alone; all gathers share a stream, reductions have one for each family.
Picoseconds BoundModel::sharded_load(const Layout& l) {
  if (l.zero < 2) return 0;
  struct Family {
    CommGroup group;
    GroupShape shape;
  };
  const auto family = [&](CommGroup group, int stride, int ranks) {
    return Family{group, strided_shape(s_.cluster, 0, stride, ranks)};
  };
  const Family dense = family(CommGroup::dp, l.tp, l.dp_shards());
  const Family expert = family(CommGroup::expert_dp, l.etp * l.ep, l.expert_shards());
  const auto time = [&](OpKind kind, const Family& f, std::int64_t elements, Bytes each) {
    if (f.shape.ranks == 1 || elements == 0) return Picoseconds{0};
    return costs_
        .cost({communication(kind, Phase::forward, elements * each), f.shape, l.ctas_of(f.group)})
        .time;
  };
  const Bytes e = bytes_of(s_.work.precision), g = s_.runtime.grad_bytes;
  Picoseconds gathers = 0, dense_scatters = 0, expert_scatters = 0;
  for (const bool experts : {false, true}) {
    const auto& moe = s_.model.layer_is_moe;
    const std::int64_t alike = std::count(moe.begin(), moe.end(), experts);
    if (alike == 0) continue;
    const auto layer = static_cast<int>(std::find(moe.begin(), moe.end(), experts) - moe.begin());
    const StageParameters p = stage_parameters(s_.model, l, {layer, 1, false, false, true, true});
    if (l.zero == 3)
      gathers += alike * (l.reshard ? 2 : 1) *
                 (time(OpKind::all_gather, dense, p.dense(), e) +
                  time(OpKind::all_gather, expert, p.experts, e));
    dense_scatters += alike * time(OpKind::reduce_scatter, dense, p.dense(), g);
    expert_scatters += alike * time(OpKind::reduce_scatter, expert, p.experts, g);
  }
  return l.micro_batches(s_.work.global_batch) *
         std::max({gathers, dense_scatters, expert_scatters});
}

BoundModel::Digest BoundModel::chunk(const Layout& l, const StageSpan& span_of) {
  const int first = span_of.first_layer, n = span_of.layers;
  const RecomputeDetail& d = l.recompute_detail;
  Digest sum;
  if (l.recompute == Recompute::full) {
    // Groups of layers run forward once more, then backward; each keeps its input alone.
    Layout kept = l;
    kept.recompute = Recompute::none;
    kept.recompute_detail = {};
    const bool some = d.method == RecomputeMethod::block;
    const int again = some ? std::min(d.layers, n) : n;
    const int groups = some ? again : (n + d.layers - 1) / d.layers;
    const Digest group = layers(kept, first, again);
    sum = layers(kept, first + again, n - again);
    sum.forward += group.forward;
    sum.backward += group.forward + group.backward;
    sum.forward_passage += group.forward_passage;
    sum.backward_passage += group.backward_passage;
    if (s_.runtime.kernels_wait_for_receives) sum.backward_passage += group.forward;
    const std::int64_t rows = tokens_of_rank(s_.work, l) / (l.sp ? l.tp : 1);
    sum.saved += groups * rows * s_.model.hidden * bytes_of(s_.work.precision);
  } else {
    sum = layers(l, first, n);
  }
  const auto add = [&](Part part) {
    Layout as = l;
    if (s_.model.mtp_modules == 0) as.recompute = Recompute::none, as.recompute_detail = {};
    const Digest& more = digest(part, {}, as);
    sum.forward += more.forward;
    sum.backward += more.backward;
    sum.forward_passage += more.forward_passage;
    sum.backward_passage += more.backward_passage;
    sum.saved += more.saved;
  };
  if (span_of.embedding) add(Part::embedding);
  if (span_of.head) add(Part::head);
  return sum;
}

namespace {

// What lies saved when a rank of an interleaved pipeline has run its first forward passes, before
// any backward one (interleaved_schedule.cpp), by what a micro-batch leaves on each chunk.
Bytes saved_before_backward(const Layout& l, int rank, std::int64_t m,
                            const std::vector<Bytes>& saved) {
  const std::int64_t group = l.vpp_group == 0 ? l.pp : l.vpp_group;
  const std::int64_t round = group * l.vpp;  // a group on every chunk
  const std::int64_t passes = std::min(2 * (l.pp - 1 - rank) + (l.vpp - 1) * group + 1,
                                       m / group * round);  // of whole groups
  Bytes sum = 0;
  for (int chunk = 0; chunk < l.vpp; ++chunk) {
    const std::int64_t rest = passes % round - chunk * group;
    sum += saved[static_cast<std::size_t>(chunk)] *
           (passes / round * group + std::clamp<std::int64_t>(rest, 0, group));
  }
  return sum;
}

}  // namespace

Bound BoundModel::bound(const Layout& l) {
  const std::int64_t m = l.micro_batches(s_.work.global_batch);
  Picoseconds before_forward = 0, before_backward = 0, longest = 0;
  Bytes memory = 0;
  layer_.fill(std::nullopt);
  for (int rank = 0; rank < l.pp; ++rank) {
    const std::vector<StageSpan> spans = rank_spans(s_.model, l, rank);
    Picoseconds load = 0;
    std::vector<Bytes> saved;
    Digest first;
    for (const StageSpan& span_of : spans) {
      const Digest d = chunk(l, span_of);
      if (span_of.chunk == 0) first = d;
      load += d.forward + d.backward;
      saved.push_back(d.saved);
    }
    longest = std::max(longest, before_forward + m * load + before_backward);
    before_forward += first.forward_passage;
    before_backward += first.backward_passage;
    const Bytes in_flight = l.vpp == 1 ? std::min<std::int64_t>(l.pp - rank, m) * saved.front()
                                       : saved_before_backward(l, rank, m, saved);
    memory = std::max(
        memory, fixed_memory(s_, l, parameters_of(s_.model, l, spans), {}).fixed() + in_flight);
  }
  return {std::max(longest, sharded_load(l)) + optimizer(l), memory};
}

}  // namespace steploom
