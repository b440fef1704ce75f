// All forward passes, then all backward passes: GPipe (one chunk a rank) and looped BFS (chunk
// after chunk, breadth first). Backward in the order in which PyTorch's schedules of these names
// run it: GPipe's micro-batches ascending, looped BFS's descending.
#include <utility>

#include "planner/pipeline_schedule.h"

namespace steploom {
namespace {

ScheduleSlots forward_then_backward(const ScheduleShape& shape, bool descending) {
  const auto m = static_cast<std::int32_t>(shape.micro_batches);
  RankSlots slots;
  for (int chunk = 0; chunk < shape.chunks; ++chunk)
    for (std::int32_t i = 0; i < m; ++i) slots.push_back({SlotKind::forward, i, chunk});
  for (int chunk = shape.chunks - 1; chunk >= 0; --chunk)
    for (std::int32_t i = 0; i < m; ++i)
      slots.push_back({SlotKind::backward, descending ? m - 1 - i : i, chunk});
  return ScheduleSlots(static_cast<std::size_t>(shape.ranks), slots);
}

}  // namespace

ScheduleSlots gpipe_schedule(const ScheduleShape& shape) {
  return forward_then_backward(shape, false);
}

ScheduleSlots looped_bfs_schedule(const ScheduleShape& shape) {
  return forward_then_backward(shape, true);
}

}  // namespace steploom
