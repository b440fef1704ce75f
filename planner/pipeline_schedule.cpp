#include "planner/pipeline_schedule.h"

#include <algorithm>
#include <cassert>

namespace steploom {

std::vector<SlotSpec> one_forward_one_backward(int stage, int stages, std::int64_t micro_batches) {
  assert(stage >= 0 && stage < stages && micro_batches > 0);
  const auto m = static_cast<std::int32_t>(micro_batches);
  const std::int32_t warm = std::min(stages - 1 - stage, m);
  std::vector<SlotSpec> slots;
  slots.reserve(2 * static_cast<std::size_t>(m));
  for (std::int32_t i = 0; i < warm; ++i) slots.push_back({SlotKind::forward, i});
  for (std::int32_t i = 0; i < m; ++i) {
    if (warm + i < m) slots.push_back({SlotKind::forward, warm + i});
    slots.push_back({SlotKind::backward, i});
  }
  return slots;
}

}  // namespace steploom
