#include "planner/saved_before_backward.h"

#include <algorithm>

#include "planner/pipeline_schedule.h"

namespace steploom {
namespace {

// In a V: searched, the least that there must be.
Bytes saved_in_a_v(const Layout& l, int rank, std::int64_t m, const std::vector<Bytes>& saved) {
  if (is_searched(l.schedule)) return saved[0] + saved[1];
  const ScheduleSlots slots = slots_of(l, m);
  Bytes sum = 0;
  for (const SlotSpec& slot : slots[static_cast<std::size_t>(rank)]) {
    if (slot.kind != SlotKind::forward) break;
    sum += saved[static_cast<std::size_t>(slot.chunk)];
  }
  return sum;
}

// Micro-batches in turn on every chunk.
std::int64_t group_of(const Layout& l, std::int64_t m) {
  if (l.schedule == PipelineOrder::looped_bfs) return m;
  return l.vpp_group == 0 ? l.pp : l.vpp_group;
}

// Of a rank's first forward passes, those on a chunk.
std::int64_t on_chunk(const Layout& l, std::int64_t group, int chunk, std::int64_t passes) {
  const std::int64_t round = group * l.vpp;
  const std::int64_t rest = passes % round - chunk * group;
  return passes / round * group + std::clamp<std::int64_t>(rest, 0, group);
}

}  // namespace

Bytes saved_before_backward(const Layout& l, int rank, std::int64_t m,
                            const std::vector<Bytes>& saved) {
  if (in_a_v(l.schedule)) return saved_in_a_v(l, rank, m, saved);
  const std::int64_t behind = l.pp - 1 - rank;  // ranks
  std::int64_t passes = 1;                      // searched: the least that there must be
  switch (l.schedule) {
    case PipelineOrder::one_forward_one_backward:
      passes = (l.vpp == 1 && !l.weave ? behind : 2 * behind) + 1;
      break;
    case PipelineOrder::zb_h1:
    case PipelineOrder::interleaved_zb:
      passes = behind + 1;
      break;
    case PipelineOrder::zb_h2:
      passes = 2 * behind + 1;
      break;
    case PipelineOrder::gpipe:
    case PipelineOrder::looped_bfs:
      passes = l.vpp * m;
      break;
    default:
      break;
  }
  if (l.vpp == 1) return std::min(passes, m) * saved.front();
  // So many micro-batches in turn on every chunk.
  const std::int64_t group = group_of(l, m);
  if (l.schedule != PipelineOrder::looped_bfs) passes += (l.vpp - 1) * group;
  passes = std::min(passes, m / group * group * l.vpp);  // of whole groups
  Bytes sum = 0;
  for (int chunk = 0; chunk < l.vpp; ++chunk)
    sum += saved[static_cast<std::size_t>(chunk)] * on_chunk(l, group, chunk, passes);
  return sum;
}

std::int64_t passes_alone(const Layout& l, int rank, int chunk, std::int64_t m) {
  const std::int64_t group = group_of(l, m);
  const std::int64_t warm = 2 * std::int64_t{l.pp - 1 - rank} + (l.vpp - 1) * group + 1;
  if (l.vpp == 1) return std::min(warm, m);
  if (m % group != 0) return 0;
  return on_chunk(l, group, chunk, std::min(warm, m * l.vpp));
}

}  // namespace steploom
