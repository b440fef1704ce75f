#include "planner/routed_bound.h"

#include <algorithm>

#include "models/chunk_builder.h"
#include "sim/portable_math.h"

namespace steploom {
namespace {

constexpr int kPerOctave = 8;

std::int64_t scaled(std::int64_t n, int step) {
  return static_cast<std::int64_t>(static_cast<double>(n) *
                                   portable_exp2(static_cast<double>(step) / kPerOctave));
}

// The least of a kernel or exchange at its own size and up to `octaves` more.
Picoseconds least_from(CostQuery q, int octaves, CostCache& costs) {
  const Work even = q.work;
  Picoseconds least = costs.cost(q).time;
  for (int step = 1; step <= octaves * kPerOctave; ++step) {
    if (even.m > 0) q.work.m = scaled(even.m, step);
    q.work.bytes = scaled(even.bytes, step);
    least = std::min(least, costs.cost(q).time);
  }
  return least;
}

// A rank with `rows` rows on its experts in all, however they lie.
Picoseconds least_grouped(CostQuery q, std::int64_t rows, std::int64_t most, CostCache& costs) {
  const std::int64_t local = std::max<std::int64_t>(q.work.groups, 1);
  double least = 0;  // picoseconds a row of one expert
  for (std::int64_t own = 1; own < most;) {
    const std::int64_t next = std::max(own + 1, scaled(own, 1));
    q.work.m = own * local;
    const double each = static_cast<double>(costs.cost(q).time) / static_cast<double>(next);
    if (own == 1 || each < least) least = each;
    own = next;
  }
  const double all = static_cast<double>(std::max<std::int64_t>(rows - local, 0));
  return static_cast<Picoseconds>(least * all / static_cast<double>(local));
}

int octaves_of(std::int64_t ratio) {
  int octaves = 0;
  for (; (std::int64_t{1} << octaves) < ratio; ++octaves) {
  }
  return octaves;
}

}  // namespace

void least_routed(Block& block, const Setting& s, const Layout& l, const GroupShapes& shapes,
                  CostCache& costs) {
  const Routing& routing = s.work.routing;
  for (std::size_t i = 0; i < block.body.ops.size(); ++i) {
    const OpInfo& info = block.body.infos[i];
    if (!info.routed) continue;
    OpTemplate& op = block.body.ops[i];
    const Work& w = info.work;
    const CostQuery q{w, shapes[static_cast<std::size_t>(info.group)], l.ctas_of(info.group),
                      info.parts};
    const bool exchanges = w.kind == OpKind::all_to_all;
    if (w.phase == Phase::weight_grad || routing.capacity > 0 || (exchanges && routing.nodes > 0)) {
      op.duration = 0;
      op.stream_gap = op.event_latency = 0;
    } else if (w.kind == OpKind::grouped_matmul) {
      // All rows of the group's sources on one expert.
      const std::int64_t tokens = tokens_of_rank(s.work, l) * l.ep * l.etp / info.parts;
      op.duration = std::min(op.duration, least_grouped(q, w.m, tokens, costs));
    } else {
      op.duration = std::min(op.duration, least_from(q, octaves_of(l.ep), costs));
    }
  }
}

}  // namespace steploom
