#include "planner/bounds.h"

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "models/chunk_builder.h"
#include "models/eager_kernels.h"
#include "models/shapes.h"
#include "models/split_backward.h"
#include "planner/block.h"
#include "planner/memory_parts.h"
#include "planner/ranks.h"
#include "planner/routed_bound.h"
#include "planner/saved_before_backward.h"
#include "planner/weave.h"
#include "sim/flat_program.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::size_t>(StreamKind::compute);

// A bound that rests on sums of rounded durations and on floating point is lowered by this share.
constexpr double kRounding = 1e-6;

}  // namespace

void ClockedTime::add(const ClockedTime& other, double times) {
  for (std::size_t i = 0; i < time.size(); ++i) {
    time[i] += other.time[i] * static_cast<Picoseconds>(times);
    cycles[i] += other.cycles[i] * times;
  }
}

void ClockedEnergy::add(const ClockedEnergy& other, double times) {
  fixed += other.fixed * times;
  moving += other.moving * times;
  scaled += other.scaled * times;
}

void BoundModel::Digest::add(const Digest& other, std::int64_t times) {
  const auto n = static_cast<double>(times);
  forward.add(other.forward, n);
  backward.add(other.backward, n);
  forward_load.add(other.forward_load, n);
  backward_load.add(other.backward_load, n);
  forward_segments.add(other.forward_segments, n);
  backward_segments.add(other.backward_segments, n);
  weight.add(other.weight, n);
  forward_energy.add(other.forward_energy, n);
  backward_energy.add(other.backward_energy, n);
  exchanges += other.exchanges * times;
  forward_passage += other.forward_passage * times;
  backward_passage += other.backward_passage * times;
  saved += other.saved * times;
}

BoundModel::BoundModel(const Setting& setting, CostCache& costs)
    : s_(setting), costs_(costs), law_(setting.costs.clock_law()) {
  if (!setting.sides.empty()) {
    int device = 0;
    for (const NodeGroup& group : setting.cluster.groups) {
      boundaries_.push_back(device);
      device += group.nodes * setting.cluster.devices_per_node;
    }
    for (std::size_t t = 0; t < setting.types(); ++t) {
      const Setting own = setting.of_type(t);
      of_type_.push_back(std::make_unique<BoundModel>(own, costs.of(own.costs)));
      types_.push_back(of_type_.back().get());
    }
    for (BoundModel* own : types_) own->types_ = types_, own->boundaries_ = boundaries_;
    return;
  }
  if (!law_.known()) return;
  slow_mhz_ = setting.costs.least_measured_mhz();
  power_.assign(static_cast<std::size_t>(law_.most_mhz) + 1, 0);
  for (std::size_t mhz = 1; mhz < power_.size(); ++mhz)
    power_[mhz] = portable_exp2((law_.exponent - 1) * portable_log2(static_cast<double>(mhz)));
}

// Longest path to the end of the last compute operator, over the operators that start only after
// something on stream `from`: its other operators may have run before. From compute it is the span,
// from pp_recv the passage. Of the operators from `first` to before `last`. Gaps count between
// these operators, not before the first: whether a block before it makes one is another block's
// affair.
ClockedTime BoundModel::longest_from(const Block& b, StreamKind from, std::uint32_t first,
                                     std::uint32_t last) const {
  const auto origin = static_cast<std::size_t>(from);
  last = std::min(last, static_cast<std::uint32_t>(b.body.ops.size()));
  std::int32_t since = 1;  // on the stream, what counts first
  for (std::uint32_t i = first; first > 0 && i < last; ++i)
    if (b.body.ops[i].stream == origin) {
      since = b.sequence[i];
      break;
    }
  ClockedTime longest;
  for (std::size_t anchor = 0; anchor < (law_.known() ? 2U : 1U); ++anchor) {
    const int mhz = anchor == 0 ? law_.most_mhz : slow_mhz_;
    std::vector<Picoseconds> end(b.body.ops.size(), 0);
    std::vector<double> cycles(b.body.ops.size(), 0);
    std::array<Picoseconds, kStreamKinds> stream;
    stream.fill(kNothingBefore);
    std::array<double, kStreamKinds> stream_cycles{};
    for (std::size_t i = first; i < last; ++i) {
      const OpTemplate& op = b.body.ops[i];
      const bool starts_it = origin == kCompute && op.stream == kCompute;
      if (!starts_it && b.known[i][origin] < since) continue;
      Picoseconds start = std::max<Picoseconds>(0, stream[op.stream] + op.stream_gap);
      double path = stream_cycles[op.stream];
      for (std::uint32_t d = 0; d < op.deps; ++d) {
        const std::uint32_t before = b.body.deps[op.first_dep + d];
        if (end[before] == 0 || end[before] + op.event_latency <= start) continue;
        start = end[before] + op.event_latency;
        path = cycles[before];
      }
      const Picoseconds time = time_at(law_, op.duration, op.mhz, mhz);
      if (op.mhz > 0 && mhz <= fastest_mhz(law_, op.mhz)) path += static_cast<double>(time) * mhz;
      end[i] = stream[op.stream] = start + time;
      cycles[i] = stream_cycles[op.stream] = path;
      if (op.stream != kCompute) continue;
      longest.time[anchor] = end[i];
      longest.cycles[anchor] = path;
    }
  }
  return longest;
}

// The spans of what lies between the cuts of a woven block.
ClockedTime BoundModel::segments_of(const Block& b) const {
  ClockedTime sum;
  std::uint32_t first = 0;
  for (const std::uint32_t cut : cuts_of(b.body)) {
    sum.add(longest_from(b, StreamKind::compute, first, cut));
    first = cut;
  }
  return sum;
}

ClockedTime BoundModel::load_of(const Block& b) const {
  ClockedTime sum;
  for (std::size_t anchor = 0; anchor < (law_.known() ? 2U : 1U); ++anchor) {
    const int mhz = anchor == 0 ? law_.most_mhz : slow_mhz_;
    for (const OpTemplate& op : b.body.ops) {
      if (op.stream != kCompute) continue;
      const Picoseconds time = time_at(law_, op.duration, op.mhz, mhz);
      sum.time[anchor] += time;
      if (op.mhz > 0 && mhz <= fastest_mhz(law_, op.mhz))
        sum.cycles[anchor] += static_cast<double>(time) * mhz;
    }
  }
  return sum;
}

// Operators take, and draw, what they do in the parts that may be cut, where that is less.
void BoundModel::least_in_parts(Block& b, const OpGraph& graph, const Layout& l,
                                const GroupShapes& shapes) {
  const int most = l.partition.parts;
  for (OpId op = 0; op < graph.size(); ++op) {
    const OpNode& node = graph.node(op);
    if (node.work.phase != Phase::forward) continue;
    OpTemplate& t = b.body.ops[op];
    for (int k = l.partition.program ? 2 : most; k <= most; ++k) {
      if (rows_to_cut(node.work) % k != 0) continue;
      const Cost& cost =
          costs_.cost({part_of(node.work, k), shapes[static_cast<std::size_t>(node.group)],
                       l.ctas_of(node.group), k});
      t.duration = std::min(t.duration, cost.time * k);
      t.microjoules = std::min(t.microjoules, cost.microjoules * static_cast<std::uint32_t>(k));
    }
  }
}

ClockedEnergy BoundModel::energy_of(const OpTemplate& op) const {
  ClockedEnergy e;
  if (!law_.known()) return e;
  if (op.mhz > 0)
    e.scaled = op.microjoules / power_[op.mhz];
  else
    (op.role == kNoRole ? e.moving : e.fixed) = op.microjoules;
  return e;
}

// A stage has its messages to others once, a layer of it has none.
ClockedEnergy BoundModel::energy_of(const Block& b) const {
  ClockedEnergy sum;
  for (const OpTemplate& op : b.body.ops)
    if (op.stream != static_cast<std::uint16_t>(StreamKind::pp_recv) &&
        op.stream != static_cast<std::uint16_t>(StreamKind::pp_send))
      sum.add(energy_of(op));
  return sum;
}

// The least over all clocks of the longer of two: the path's length at a clock, which falls as it
// grows, and the time over which what is drawn at that clock is within the limit, which grows. At
// the lowest clock the limit may be exceeded.
Picoseconds BoundModel::least(Picoseconds before, const ClockedTime& path,
                              const ClockedEnergy& energy) const {
  if (!law_.known()) return before + path.time[0];
  const auto length = [&](int mhz) {
    double most = 0;
    for (std::size_t i = 0; i < 2; ++i) {
      const int anchor = i == 0 ? law_.most_mhz : slow_mhz_;
      most = std::max(most, static_cast<double>(before + path.time[i]) +
                                path.cycles[i] * (1.0 / mhz - 1.0 / anchor));
    }
    return most * (1 - kRounding);
  };
  const int fastest = fastest_mhz(law_, slow_mhz_);
  const auto within = [&](int mhz) {
    const double joules = energy.fixed + energy.moving * mhz / law_.most_mhz +
                          energy.scaled * power_[static_cast<std::size_t>(std::min(mhz, fastest))];
    return joules * 1e6 / law_.budget_watts() * (1 - kRounding);
  };
  int low = law_.least_mhz, high = law_.most_mhz + 1;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (within(middle) <= length(middle) ? low : high) = middle;
  }
  const double at_low = length(low);
  return static_cast<Picoseconds>(high > law_.most_mhz ? at_low : std::min(at_low, within(high)));
}

// On the path of a rank whose experts' group has several types lie the experts of any of them.
void BoundModel::bound_routed(Block& block, const Layout& l, const GroupShapes& shapes) {
  least_routed(block, s_, l, shapes, costs_);
  const bool alike = std::all_of(boundaries_.begin(), boundaries_.end(),
                                 [&](int device) { return device % (l.etp * l.ep) == 0; });
  if (alike) return;
  for (const BoundModel* other : types_) least_routed(block, other->s_, l, shapes, other->costs_);
}

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
  Block f = lower_block("F", chunk.forward, s_.runtime, l, shapes, costs_);
  // Weight gradients that may lie anywhere lengthen no path of their own layer.
  const bool split = splits_backward(l.schedule);
  const bool apart = split || l.dw != WeightPlacement::none;
  const BackwardBlocks parts = apart ? split_backward(chunk.backward) : BackwardBlocks{};
  Block whole = lower_block("B", chunk.backward, s_.runtime, l, shapes, costs_);
  Block data = lower_block("B", parts.data, s_.runtime, l, shapes, costs_);
  Block w = lower_block("W", split ? parts.weight : OpGraph{}, s_.runtime, l, shapes, costs_);
  if (s_.work.routing.uneven()) {
    for (Block* block : {&f, &whole, &data, &w}) {
      const std::vector<OpTemplate> balanced = block->body.ops;
      bound_routed(*block, l, shapes);
      for (std::size_t i = 0; i < balanced.size(); ++i) {  // draws the less the shorter it is
        OpTemplate& op = block->body.ops[i];
        if (op.duration == balanced[i].duration || balanced[i].duration == 0) continue;
        const double share =
            static_cast<double>(op.duration) / static_cast<double>(balanced[i].duration);
        op.microjoules = static_cast<std::uint32_t>(op.microjoules * std::min(share, 1.0));
      }
    }
  }
  if (l.partition.cuts()) least_in_parts(f, chunk.forward, l, shapes);
  Digest d;
  d.forward = l.partition.cuts() ? load_of(f) : longest_from(f, StreamKind::compute);
  const Block& b = apart ? data : whole;
  d.backward = longest_from(b, StreamKind::compute);
  d.forward_energy = energy_of(f);
  d.backward_energy = energy_of(whole);
  d.weight = longest_from(w, StreamKind::compute);
  d.forward_load = load_of(f);
  d.backward_load = load_of(whole);
  if (s_.runtime.weaves != Weaves::no) {
    d.forward_segments = segments_of(f);
    d.backward_segments = segments_of(whole);
  }
  for (const Block* block : {&f, &whole})
    for (const OpTemplate& op : block->body.ops)
      if (op.stream == static_cast<std::uint16_t>(StreamKind::ep)) d.exchanges += op.duration;
  // The first stage makes its input itself.
  const bool from_start = part == Part::embedding || l.partition.cuts();
  d.forward_passage = (from_start ? d.forward : longest_from(f, StreamKind::pp_recv)).time[0];
  d.backward_passage = longest_from(b, StreamKind::pp_recv).time[0];
  // The fullest rank keeps no less than the mean, which is the balanced one's unless rows are
  // dropped.
  d.saved = saved_bytes(chunk, s_.work.routing.capacity == 0);
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
  if (as.dw != WeightPlacement::none) as.dw = WeightPlacement::solved;
  as.partition = known_by(l.partition);
  as.bucket = as.grad_micro = 0;
  as.a2a_first = as.weave = false;
  as.schedule =
      splits_backward(l.schedule) ? PipelineOrder::zb_h1 : PipelineOrder::one_forward_one_backward;
  as.stages.clear();
  const bool attends = part == Part::layer || part == Part::attention ||
                       (part == Part::head && s_.model.mtp_modules > 0);
  const bool experts = part == Part::head ? s_.model.mtp_modules > 0 && s_.model.has_moe()
                                          : part != Part::embedding && kind.experts;
  if (!experts || part == Part::attention) as.ep = as.etp = as.chunks = as.pairwise = 1;
  as.offload = Offload::none;  // copies only add: offload_load()
  if (part == Part::embedding || part == Part::head) as.tp_overlap = false;
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

namespace {

// A length of time that is no shorter than `least` at any clock.
ClockedTime at_least(ClockedTime length, Picoseconds least) {
  for (std::size_t i = 0; i < length.time.size(); ++i)
    if (length.time[i] < least) length.time[i] = least, length.cycles[i] = 0;
  return length;
}

}  // namespace

// The halves of a layer follow each other on the compute stream, the second's input made by the
// first: from the end of the first it takes at least its span, and its passage.
BoundModel::Digest BoundModel::layer(Kind kind, const Layout& l) {
  if (l.recompute == Recompute::selective) return digest(Part::layer, kind, l);
  const Digest& a = digest(Part::attention, kind, l);
  const Digest& f = digest(Part::feed_forward, kind, l);
  Digest sum;
  sum.forward = at_least(f.forward, f.forward_passage);
  sum.forward.add(a.forward);
  sum.backward = at_least(a.backward, a.backward_passage);
  sum.backward.add(f.backward);
  sum.weight = a.weight;
  sum.weight.add(f.weight);
  sum.forward_energy = a.forward_energy;
  sum.forward_energy.add(f.forward_energy);
  sum.backward_energy = a.backward_energy;
  sum.backward_energy.add(f.backward_energy);
  sum.forward_load = a.forward_load;
  sum.forward_load.add(f.forward_load);
  sum.backward_load = a.backward_load;
  sum.backward_load.add(f.backward_load);
  sum.forward_segments = a.forward_segments;
  sum.forward_segments.add(f.forward_segments);
  sum.backward_segments = a.backward_segments;
  sum.backward_segments.add(f.backward_segments);
  sum.exchanges = a.exchanges + f.exchanges;
  sum.forward_passage = a.forward_passage + f.forward_passage;
  sum.backward_passage = a.backward_passage + f.backward_passage;
  sum.saved = a.saved + f.saved;
  return sum;
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
    sum.add(*layer_[i], alike[i]);
  }
  return sum;
}

void BoundModel::optimizer(const Layout& l, Digest& sum) {
  const StageParameters p = parameters_of(s_.model, l, rank_spans(s_.model, l, 0));
  const bool shard = l.zero > 0;
  const std::int64_t experts =
      l.offload == Offload::none ? p.experts / (shard ? l.expert_shards() : 1) : 0;
  const std::int64_t own = p.dense() / (shard ? l.dp_shards() : 1) + experts;
  const std::int64_t held =
      l.zero > 1 ? own : p.total() - (l.offload == Offload::none ? 0 : p.experts);
  const Bytes g = s_.runtime.grad_bytes;
  const bool eager = s_.runtime.kernels == Kernels::torch_eager;
  const auto add = [&](OpKind kind, std::int64_t n, Bytes bytes) {
    Work work = streaming(kind, Phase::optimizer, stored_precision(s_.work.precision), n, 1, bytes);
    if (eager && kind == OpKind::adam) work = eager_update(work, s_.work.optimizer);
    const Cost& cost = costs_.cost({work, GroupShape{}, 0});
    for (Picoseconds& time : sum.backward.time) time += cost.time;
    sum.backward_energy.moving += cost.microjoules;
  };
  add(OpKind::grad_norm, own, own * g);
  add(OpKind::adam, own,
      own * moved_bytes(s_.work.optimizer, {s_.work.precision, s_.runtime.master_weights}, g));
  if (!eager) add(OpKind::zero_fill, held * g, held * g);
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
  // Rank 0's. Under a pipeline gradients are reduced once, and kept parameters gathered once.
  const std::int64_t m = l.micro_batches(s_.work.global_batch);
  const std::int64_t scattered = l.pp > 1 ? 1 : m;
  const std::int64_t gathered = l.reshard ? 2 * m : l.pp > 1 ? 1 : m;
  std::array<std::int64_t, 2> count{};
  std::array<int, 2> found{};
  for (const StageSpan& span_of : rank_spans(s_.model, l, 0))
    for (int i = span_of.first_layer; i < span_of.first_layer + span_of.layers; ++i) {
      ++count[s_.model.is_moe(i)];
      found[s_.model.is_moe(i)] = i;
    }
  for (const std::size_t experts : {0U, 1U}) {
    const std::int64_t alike = count[experts];
    if (alike == 0) continue;
    const int layer = found[experts];
    const StageParameters p = stage_parameters(s_.model, l, {layer, 1, false, false, true, true});
    if (l.zero == 3)
      gathers += alike * gathered *
                 (time(OpKind::all_gather, dense, p.dense(), e) +
                  time(OpKind::all_gather, expert, p.experts, e));
    dense_scatters += alike * scattered * time(OpKind::reduce_scatter, dense, p.dense(), g);
    expert_scatters += alike * scattered * time(OpKind::reduce_scatter, expert, p.experts, g);
  }
  return std::max({gathers, dense_scatters, expert_scatters});
}

// The engine that brings experts in brings them at least once forward and once backward for every
// micro-batch, one after the other.
Picoseconds BoundModel::offload_load(const Layout& l) {
  if (l.offload == Offload::none) return 0;
  Picoseconds most = 0;
  for (int rank = 0; rank < l.pp; ++rank) {
    const StageParameters p = parameters_of(s_.model, l, rank_spans(s_.model, l, rank));
    const Work in = communication(OpKind::copy_to_device, Phase::forward,
                                  p.experts * bytes_of(s_.work.precision));
    most = std::max(most, costs_.cost({in, GroupShape{}, 0}).time);
  }
  return 2 * l.micro_batches(s_.work.global_batch) * most;
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
    const Bytes saved = sum.saved;
    sum.add(group);
    sum.saved = saved;
    sum.backward.add(group.forward);
    sum.backward_load.add(group.forward_load);
    sum.backward_energy.add(group.forward_energy);
    if (s_.runtime.kernels_wait_for_receives) sum.backward_passage += group.forward.time[0];
    const std::int64_t rows = tokens_of_rank(s_.work, l) / (l.sp ? l.tp : 1);
    sum.saved += groups * rows * s_.model.hidden * bytes_of(s_.work.precision);
  } else {
    sum = layers(l, first, n);
  }
  const auto add = [&](Part part) {
    Layout as = l;
    if (s_.model.mtp_modules == 0) as.recompute = Recompute::none, as.recompute_detail = {};
    sum.add(digest(part, {}, as));
  };
  if (span_of.embedding) add(Part::embedding);
  if (span_of.head) add(Part::head);
  return sum;
}

Partition BoundModel::known_by(const Partition& p) {
  return {p.parts, p.program};
}

std::vector<BoundModel::Column> BoundModel::columns(const Layout& l) {
  const auto ranks = static_cast<std::size_t>(l.pp);
  if (of_type_.empty()) return {Column(ranks, this)};
  const int per_stage = l.devices() / l.pp;
  std::set<std::vector<std::size_t>> known;
  std::vector<Column> out;
  for (const int boundary : boundaries_) {  // where a column differs from the one before it
    const int place = boundary % per_stage;
    std::vector<std::size_t> types;
    for (int rank = 0; rank < l.pp; ++rank)
      types.push_back(s_.cluster.type(rank * per_stage + place));
    Column column;
    for (const std::size_t t : types) column.push_back(types_[t]);
    if (known.insert(std::move(types)).second) out.push_back(std::move(column));
  }
  return out;
}

Bound BoundModel::bound(const Layout& l) {
  Bound most;
  bool first = true;
  for (const Column& column : columns(l)) {
    const Bound own = bound_of(l, column);
    most.step = std::max(most.step, own.step);
    if (first || own.memory - own.limit > most.memory - most.limit)
      most.memory = own.memory, most.limit = own.limit;
    first = false;
  }
  return most;
}

Bound BoundModel::bound_of(const Layout& l, const Column& column) {
  const std::int64_t m = l.micro_batches(s_.work.global_batch);
  Picoseconds before_forward = 0, before_backward = 0, longest = 0;
  Bytes memory = 0, limit = 0;
  Digest last;  // the optimizer of stage 0, which no stage's work may outlast
  column.front()->optimizer(l, last);
  for (BoundModel* own : column) own->layer_.fill(std::nullopt);
  const bool split = splits_backward(l.schedule);
  const bool mixed = mixes_backward(l.schedule);
  for (int rank = 0; rank < l.pp; ++rank) {
    BoundModel& own = *column[static_cast<std::size_t>(rank)];
    const std::vector<StageSpan> spans = rank_spans(s_.model, l, rank);
    ClockedTime path, loaded;  // of its kernels alone
    // Where passes are woven: its experts' exchanges alone, and passes of one way.
    ClockedTime exchanged, forward, backward;
    ClockedEnergy energy;
    std::vector<Bytes> saved;
    Digest first;
    for (const StageSpan& span_of : spans) {
      const Digest d = own.chunk(l, span_of);
      if (span_of.chunk == 0) first = d;
      const auto times = static_cast<double>(m);
      const bool pairs = l.weave && !split;
      const auto alone = static_cast<double>(pairs     ? passes_alone(l, rank, span_of.chunk, m)
                                             : l.weave ? 0
                                                       : m);
      path.add(d.forward, alone);
      path.add(d.forward_segments, times - alone);
      path.add(mixed ? d.backward_load : d.backward, mixed ? times : alone);
      if (!mixed) path.add(d.backward_segments, times - alone);
      if (!mixed) path.add(d.weight, times);
      forward.add(d.forward, times);
      forward.add(d.backward, alone);
      backward.add(d.backward, times);
      backward.add(d.forward, alone);
      loaded.add(d.forward, times);
      loaded.add(d.backward_load, times);
      exchanged.add({{m * d.exchanges, m * d.exchanges}, {}});
      energy.add(d.forward_energy, static_cast<double>(m));
      energy.add(d.backward_energy, static_cast<double>(m));
      saved.push_back(d.saved);
    }
    loaded.add(last.backward);
    for (ClockedTime* time : {&exchanged, &forward, &backward}) time->add(last.backward);
    if (!split || rank == 0) path.add(last.backward);
    if (rank == 0) energy.add(last.backward_energy);
    const Picoseconds before = before_forward + before_backward;
    longest = std::max(longest, own.least(before, path, energy));
    if (l.dw != WeightPlacement::none)
      longest = std::max(longest, own.least(before, loaded, energy));
    if (l.weave && !split)
      for (const ClockedTime* time : {&exchanged, &forward, &backward})
        longest = std::max(longest, own.least(before, *time, energy));
    before_forward += first.forward_passage;
    if (!split) before_backward += first.backward_passage;
    const Bytes in_flight = saved_before_backward(l, rank, m, saved);
    const Bytes peak =
        fixed_memory(own.s_, l, parameters_of(s_.model, l, spans), {}).fixed() + in_flight;
    const Bytes room = own.s_.cluster.device.memory;
    if (rank == 0 || peak - room > memory - limit) memory = peak, limit = room;
  }
  const Picoseconds sharded = column.front()->sharded_load(l) + last.backward.time[0];
  return {std::max({longest, sharded, column.front()->offload_load(l)}), memory, limit};
}

}  // namespace steploom
