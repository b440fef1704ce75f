#include "planner/bounds.h"

#include <algorithm>
#include <array>
#include <vector>

#include "models/chunk_builder.h"
#include "models/shapes.h"
#include "planner/block.h"
#include "planner/memory_parts.h"
#include "planner/pipeline_schedule.h"
#include "planner/ranks.h"
#include "planner/routed_bound.h"
#include "sim/flat_program.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::size_t>(StreamKind::compute);

// A bound that rests on sums of rounded durations and on floating point is lowered by this share.
constexpr double kRounding = 1e-6;

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

BoundModel::BoundModel(const Setting& setting, CostCache& costs)
    : s_(setting), costs_(costs), law_(setting.costs.clock_law()) {
  if (!law_.known()) return;
  slow_mhz_ = setting.costs.least_measured_mhz();
  power_.assign(static_cast<std::size_t>(law_.most_mhz) + 1, 0);
  for (std::size_t mhz = 1; mhz < power_.size(); ++mhz)
    power_[mhz] = portable_exp2((law_.exponent - 1) * portable_log2(static_cast<double>(mhz)));
}

// Longest path to the end of the last compute operator, over the operators that start only after
// something on stream `from`: its other operators may have run before. From compute it is the span,
// from pp_recv the passage. Gaps count between these operators, not before the first: whether a
// block before it makes one is another block's affair.
ClockedTime BoundModel::longest_from(const Block& b, StreamKind from) const {
  const auto origin = static_cast<std::size_t>(from);
  ClockedTime longest;
  for (std::size_t anchor = 0; anchor < (law_.known() ? 2U : 1U); ++anchor) {
    const int mhz = anchor == 0 ? law_.most_mhz : slow_mhz_;
    std::vector<Picoseconds> end(b.body.ops.size(), 0);
    std::vector<double> cycles(b.body.ops.size(), 0);
    std::array<Picoseconds, kStreamKinds> stream;
    stream.fill(kNothingBefore);
    std::array<double, kStreamKinds> stream_cycles{};
    for (std::size_t i = 0; i < b.body.ops.size(); ++i) {
      const OpTemplate& op = b.body.ops[i];
      const bool starts_it = origin == kCompute && op.stream == kCompute;
      if (!starts_it && b.known[i][origin] == 0) continue;
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

BoundModel::Part BoundModel::part_of(const ModelSpec& m, int layer) {
  return static_cast<Part>((m.is_local(layer) ? 2 : 0) + (m.is_moe(layer) ? 1 : 0));
}

bool BoundModel::has_experts(Part part) const {
  if (part == Part::head) return s_.model.mtp_modules > 0 && s_.model.has_moe();
  return part == Part::moe_layer || part == Part::local_moe_layer;
}

BoundModel::Digest BoundModel::measure(Part part, const Layout& l) {
  StageSpan span_of{0, 0, part == Part::embedding, part == Part::head, false, false};
  if (part < Part::embedding) {
    span_of.layers = 1;
    while (part_of(s_.model, span_of.first_layer) != part) ++span_of.first_layer;
  }
  // Neighbours on both sides, so that the input comes from outside, as it does in a longer stage.
  span_of.receives = part != Part::embedding;
  span_of.sends = part != Part::head;
  GroupShapes shapes{};
  const auto set = [&](CommGroup g, int stride, int count) {
    shapes[static_cast<std::size_t>(g)] = strided_shape(s_.cluster, 0, stride, count);
  };
  set(CommGroup::tp, 1, l.tp);
  set(CommGroup::etp, 1, l.etp);
  set(CommGroup::ep, l.etp, l.ep);
  const Chunk chunk = build_chunk(s_.model, s_.work, l, s_.runtime, span_of);
  Block f = lower_block("F", chunk.forward, s_.runtime, l, shapes, costs_);
  Block b = lower_block("B", chunk.backward, s_.runtime, l, shapes, costs_);
  if (s_.work.routing.uneven()) {
    for (Block* block : {&f, &b}) {
      const std::vector<OpTemplate> balanced = block->body.ops;
      least_routed(*block, s_, l, shapes, costs_);
      for (std::size_t i = 0; i < balanced.size(); ++i) {  // draws the less the shorter it is
        OpTemplate& op = block->body.ops[i];
        if (op.duration == balanced[i].duration || balanced[i].duration == 0) continue;
        const double share =
            static_cast<double>(op.duration) / static_cast<double>(balanced[i].duration);
        op.microjoules = static_cast<std::uint32_t>(op.microjoules * std::min(share, 1.0));
      }
    }
  }
  Digest d;
  d.forward = longest_from(f, StreamKind::compute);
  d.backward = longest_from(b, StreamKind::compute);
  d.forward_energy = energy_of(f);
  d.backward_energy = energy_of(b);
  // The first stage makes its input itself.
  d.forward_passage =
      (part == Part::embedding ? d.forward : longest_from(f, StreamKind::pp_recv)).time[0];
  d.backward_passage = longest_from(b, StreamKind::pp_recv).time[0];
  d.saved = saved_bytes(chunk);
  return d;
}

const BoundModel::Digest& BoundModel::digest(Part part, const Layout& l) {
  // A layer does not depend on pipeline, data parallelism or ZeRO.
  Layout key = l;
  key.pp = key.vpp = 1;
  key.vpp_group = 0;
  key.stages.clear();
  key.dp = 1;
  key.zero = 0;
  if (!has_experts(part)) key.ep = key.etp = key.chunks = 1;
  const auto it = known_.find({part, key});
  if (it != known_.end()) return it->second;
  return known_.emplace(std::pair(part, key), measure(part, key)).first->second;
}

void BoundModel::optimizer(const Layout& l, Digest& sum) {
  const StageParameters p = parameters_of(s_.model, l, rank_spans(s_.model, l, 0));
  const bool shard = l.zero == 1;
  const std::int64_t own = p.dense() / (shard ? l.dp : 1) + p.experts / (shard ? l.expert_dp() : 1);
  const Bytes g = s_.runtime.grad_bytes;
  const auto add = [&](OpKind kind, std::int64_t n, Bytes bytes) {
    const Cost& cost = costs_.cost(
        {streaming(kind, Phase::optimizer, stored_precision(s_.work.precision), n, 1, bytes),
         GroupShape{}, 0});
    for (Picoseconds& time : sum.backward.time) time += cost.time;
    sum.backward_energy.moving += cost.microjoules;
  };
  add(OpKind::grad_norm, own, own * g);
  add(OpKind::adam, own, own * moved_bytes(s_.work.optimizer, s_.work.precision, g));
  add(OpKind::zero_fill, p.total() * g, p.total() * g);
}

BoundModel::Digest BoundModel::chunk(const Layout& l, const StageSpan& span_of) {
  Digest sum;
  const auto add = [&](Part part, const Layout& as, std::int64_t times) {
    if (times == 0) return;
    const Digest& d = digest(part, as);
    sum.forward.add(d.forward, static_cast<double>(times));
    sum.backward.add(d.backward, static_cast<double>(times));
    sum.forward_energy.add(d.forward_energy, static_cast<double>(times));
    sum.backward_energy.add(d.backward_energy, static_cast<double>(times));
    sum.forward_passage += d.forward_passage * times;
    sum.backward_passage += d.backward_passage * times;
    sum.saved += d.saved * times;
  };
  const auto add_layers = [&](const Layout& as, int first, int count) {
    std::array<std::int64_t, static_cast<std::size_t>(Part::embedding)> layers{};
    for (int i = 0; i < count; ++i)
      ++layers[static_cast<std::size_t>(part_of(s_.model, first + i))];
    for (std::size_t part = 0; part < layers.size(); ++part)
      add(static_cast<Part>(part), as, layers[part]);
  };
  const int first = span_of.first_layer, n = span_of.layers;
  const RecomputeDetail& d = l.recompute_detail;
  Layout kept = l, again = l;  // a layer's own: nothing run again, and all of it
  kept.recompute = Recompute::none;
  kept.recompute_detail = again.recompute_detail = {};
  if (l.recompute == Recompute::full && d.method == RecomputeMethod::block) {
    const int some = std::min(d.layers, n);
    add_layers(again, first, some);
    add_layers(kept, first + some, n - some);
  } else if (l.recompute == Recompute::full && d.layers > 1 && n > 0) {
    // Whole groups run forward once more, then backward; each keeps its input alone.
    add_layers(kept, first, n);
    sum.backward.add(sum.forward);
    sum.backward_energy.add(sum.forward_energy);
    sum.saved = digest(part_of(s_.model, first), again).saved * ((n + d.layers - 1) / d.layers);
  } else {
    add_layers(l, first, n);
  }
  if (span_of.embedding) add(Part::embedding, l, 1);
  if (span_of.head) add(Part::head, l, 1);
  return sum;
}

namespace {

// The most that lies saved at a time when slots run in order, by what a micro-batch leaves on each
// chunk.
Bytes most_saved(const std::vector<SlotSpec>& slots, const std::vector<Bytes>& saved) {
  Bytes now = 0, most = 0;
  for (const SlotSpec& slot : slots) {
    const Bytes one = saved[static_cast<std::size_t>(slot.chunk)];
    now += slot.kind == SlotKind::forward ? one : -one;
    most = std::max(most, now);
  }
  return most;
}

}  // namespace

Bound BoundModel::bound(const Layout& l) {
  const std::int64_t m = l.micro_batches(s_.work.global_batch);
  Picoseconds before_forward = 0, before_backward = 0, longest = 0;
  Bytes memory = 0;
  Digest last;  // the optimizer of stage 0, which no stage's work may outlast
  optimizer(l, last);
  for (int rank = 0; rank < l.pp; ++rank) {
    const std::vector<StageSpan> spans = rank_spans(s_.model, l, rank);
    ClockedTime path;
    ClockedEnergy energy;
    std::vector<Bytes> saved;
    Digest first;
    for (const StageSpan& span_of : spans) {
      const Digest d = chunk(l, span_of);
      if (span_of.chunk == 0) first = d;
      path.add(d.forward, static_cast<double>(m));
      path.add(d.backward, static_cast<double>(m));
      energy.add(d.forward_energy, static_cast<double>(m));
      energy.add(d.backward_energy, static_cast<double>(m));
      saved.push_back(d.saved);
    }
    path.add(last.backward);
    if (rank == 0) energy.add(last.backward_energy);
    longest = std::max(longest, least(before_forward + before_backward, path, energy));
    before_forward += first.forward_passage;
    before_backward += first.backward_passage;
    const Bytes in_flight = l.vpp == 1 ? std::min<std::int64_t>(l.pp - rank, m) * saved.front()
                                       : most_saved(slots_of(l, rank, m), saved);
    memory = std::max(
        memory, fixed_memory(s_, l, parameters_of(s_.model, l, spans), {}).fixed() + in_flight);
  }
  return {longest, memory};
}

}  // namespace steploom
