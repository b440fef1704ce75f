#include "planner/routed_loads.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <string>

#include "models/chunk_builder.h"
#include "models/error.h"
#include "sim/expert_loads.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

std::int64_t in_proportion(std::int64_t of, std::int64_t part, std::int64_t whole) {
  return static_cast<std::int64_t>(
      static_cast<double>(of) * static_cast<double>(part) / static_cast<double>(whole) + 0.5);
}

// A grouped product of these rows over the mean of even ones.
double longer(std::span<const std::int64_t> rows) {
  const std::int64_t most = *std::max_element(rows.begin(), rows.end());
  const std::int64_t all = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  if (all == 0 || most * static_cast<std::int64_t>(rows.size()) == all) return 1;
  const double over =
      static_cast<double>(most) * static_cast<double>(rows.size()) / static_cast<double>(all);
  return portable_exp2(kUnevenOctaves * std::min(1.0, portable_log2(over)));
}

}  // namespace

RoutedCount number_routed(BlockTemplate& block) {
  RoutedCount count;
  for (std::size_t i = 0; i < block.ops.size(); ++i)
    if (block.infos[i].routed) block.ops[i].varies = count.durations++;
  std::vector<RoutedBytes>& routed = block.routed;
  assert(routed.size() < kNotRouted);
  std::stable_sort(routed.begin(), routed.end(),
                   [](const RoutedBytes& a, const RoutedBytes& b) { return a.op < b.op; });
  std::map<std::int32_t, std::uint32_t> layers;
  for (std::size_t i = 0; i < routed.size(); ++i) {
    std::uint16_t& first = block.ops[routed[i].op].routed;
    if (first == kNotRouted) first = static_cast<std::uint16_t>(i);
    routed[i].share = layers.try_emplace(routed[i].layer, static_cast<std::uint32_t>(layers.size()))
                          .first->second;
  }
  count.shares = static_cast<std::uint16_t>(layers.size());
  return count;
}

RoutedLoads::RoutedLoads(const Setting& setting, const Layout& layout) : s_(setting), l_(layout) {
  const std::int64_t tokens = tokens_of_rank(setting.work, layout);
  tokens_ = layout.sp ? tokens / layout.tp : tokens;
  const int choices = setting.model.moe->top_k;
  balanced_ = tokens_ * choices * layout.etp;
  constexpr std::int64_t kMostRows = std::int64_t{1} << 31;  // routed_rows.h
  if (tokens_ >= kMostRows / choices)
    throw Error({"routing", to_text(layout), "fewer than 2^31 rows of a rank in a micro-batch",
                 std::to_string(tokens_) + " tokens", ""});
}

RoutedLoads::Load& RoutedLoads::load(const std::vector<int>& node_of, int layer,
                                     std::int64_t micro_batch) {
  std::vector<std::unique_ptr<Load>>& of_layer = loads_[node_of][layer];
  if (of_layer.empty())
    of_layer.resize(static_cast<std::size_t>(l_.micro_batches(s_.work.global_batch)));
  std::unique_ptr<Load>& at = of_layer[static_cast<std::size_t>(micro_batch)];
  if (at != nullptr) return *at;
  at = std::make_unique<Load>();
  const MoeSpec& moe = *s_.model.moe;
  const RoutedRows rows = routed_rows(s_.work.routing, moe.experts, moe.top_k, tokens_, node_of,
                                      {s_.sample, layer, micro_batch});
  at->experts = rows.received();
  at->exchange = even_exchange(rows, node_of);
  const std::size_t local = at->experts.size() / node_of.size();
  for (std::size_t r = 0; r < node_of.size(); ++r) {
    const std::span<const std::int64_t> own(at->experts.data() + r * local, local);
    at->ranks.push_back(std::accumulate(own.begin(), own.end(), std::int64_t{0}));
    at->longer.push_back(longer(own));
  }
  const std::int64_t kept = std::accumulate(at->ranks.begin(), at->ranks.end(), std::int64_t{0});
  dropped_ += rows.dropped;
  routed_ += kept + rows.dropped;
  ++counted_;
  busiest_ += static_cast<double>(*std::max_element(at->ranks.begin(), at->ranks.end())) *
              static_cast<double>(node_of.size()) / static_cast<double>(kept);
  return *at;
}

std::uint32_t RoutedLoads::shape_of(const OpInfo& info, std::size_t type,
                                    const GroupShapes& shapes) {
  const Work& w = info.work;
  const GroupShape group = shapes[static_cast<std::size_t>(info.group)];
  const auto [it, fresh] = shape_ids_.try_emplace(
      {w.kind, w.phase, w.precision, w.m, w.n, w.k, w.bytes, w.exchange, group, info.parts, type},
      static_cast<std::uint32_t>(shapes_.size()));
  if (!fresh) return it->second;
  Shape shape;
  shape.kind = w.kind == OpKind::all_to_all       ? Kind::exchange
               : w.kind == OpKind::grouped_matmul ? Kind::grouped
                                                  : Kind::rows;
  shape.costs = s_.sides.empty() ? &s_.costs : &s_.sides[type].costs;
  shape.balanced = {w, group, l_.ctas_of(info.group), info.parts};
  shapes_.push_back(std::move(shape));
  return it->second;
}

const std::vector<RoutedLoads::Varying>& RoutedLoads::varying(std::uint32_t id,
                                                              const BlockTemplate& block,
                                                              std::size_t type,
                                                              const GroupShapes& shapes) {
  const auto [it, fresh] = blocks_.try_emplace(id);
  for (std::size_t i = 0; fresh && i < block.ops.size(); ++i)
    if (block.ops[i].varies != kOneDuration)
      it->second.push_back({shape_of(block.infos[i], type, shapes), block.infos[i].layer});
  return it->second;
}

Picoseconds RoutedLoads::exchange(std::uint32_t id, Load& load) {
  for (const auto& [known, time] : load.exchanges)
    if (known == id) return time;
  const Shape& shape = shapes_[id];
  CostQuery q = shape.balanced;
  // By kernels of their own: experts are even, and what a node limit sends is in the work.
  if (rows_by_kernels(q.work)) return shape.costs->cost(q).time;
  const std::int64_t rows = tokens_ * s_.model.moe->top_k;  // that the balanced one sends
  const Bytes row = q.work.bytes * q.parts / rows;
  const bool one_node = q.group.nodes == 1;
  q.work.bytes = (one_node ? load.exchange.inside : load.exchange.outside) * row / q.parts;
  if (!one_node) q.inside = load.exchange.inside * row / q.parts;
  const Picoseconds time = shape.costs->cost(q).time;
  load.exchanges.emplace_back(id, time);
  return time;
}

template <class Query>
Picoseconds RoutedLoads::remembered(Shape& shape, std::int64_t rows, const Query& query) {
  const auto at = static_cast<std::size_t>(rows);
  if (at >= shape.known.size()) shape.known.resize(at + at / 2 + 1, -1);
  if (shape.known[at] < 0) shape.known[at] = rows == 0 ? 0 : shape.costs->cost(query()).time;
  return shape.known[at];
}

Picoseconds RoutedLoads::grouped(Shape& shape, const Load& load, std::size_t member) {
  const std::size_t local = load.experts.size() / load.ranks.size();
  Picoseconds sum = 0;
  for (std::size_t e = member * local; e < (member + 1) * local; ++e)
    sum += remembered(shape, load.experts[e] * l_.etp / shape.balanced.parts, [&] {
      CostQuery q = shape.balanced;
      (q.work.phase == Phase::weight_grad ? q.work.k : q.work.m) =
          load.experts[e] * l_.etp / q.parts * static_cast<std::int64_t>(local);
      return q;
    });
  const auto n = static_cast<Picoseconds>(local);
  if (load.longer[member] == 1) return sum / n;
  return static_cast<Picoseconds>(
      static_cast<double>(sum) / static_cast<double>(n) * load.longer[member] + 0.5);
}

Picoseconds RoutedLoads::rows(Shape& shape, std::int64_t rows) {
  return remembered(shape, rows, [&] {
    CostQuery q = shape.balanced;
    const std::int64_t even = balanced_ / q.parts;
    if (rows == even) return q;
    if (q.work.m == even) q.work.m = rows;
    q.work.bytes = in_proportion(q.work.bytes, rows, even);
    return q;
  });
}

void RoutedLoads::append(std::uint32_t id, const BlockTemplate& block, std::size_t type,
                         const GroupShapes& shapes, const Place& place, std::int64_t micro_batch,
                         OwnLoad& own) {
  std::vector<Picoseconds>& to = own.durations;
  const auto member = static_cast<std::size_t>(place.member);
  Load* of = nullptr;
  int layer = -1;
  for (const Varying& op : varying(id, block, type, shapes)) {
    if (op.layer != layer) of = &load(place.node_of, layer = op.layer, micro_batch);
    Shape& shape = shapes_[op.shape];
    switch (shape.kind) {
      case Kind::exchange:
        to.push_back(exchange(op.shape, *of));
        break;
      case Kind::grouped:
        to.push_back(grouped(shape, *of, member));
        break;
      case Kind::rows:
        to.push_back(rows(shape, of->ranks[member] * l_.etp / shape.balanced.parts));
        break;
    }
  }
  const std::size_t first = own.shares.size();
  const std::int64_t even = balanced_ / l_.etp;
  for (const RoutedBytes& r : block.routed) {
    if (first + r.share < own.shares.size()) continue;  // shares are numbered as they are first met
    const std::int64_t got = load(place.node_of, r.layer, micro_batch).ranks[member];
    own.shares.push_back(static_cast<std::uint32_t>((got * kFullRate + even - 1) / even));
  }
}

RoutingSummary RoutedLoads::summary() const {
  RoutingSummary out;
  if (routed_ > 0) out.dropped = static_cast<double>(dropped_) / static_cast<double>(routed_);
  if (counted_ > 0) out.busiest = busiest_ / static_cast<double>(counted_);
  return out;
}

}  // namespace steploom
