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

std::vector<SlotSpec> slots_of(const Layout& l, int stage, std::int64_t micro_batches) {
  if (l.vpp == 1) return one_forward_one_backward(stage, l.pp, micro_batches);
  return interleaved(stage, {l.pp, l.vpp, l.vpp_group == 0 ? l.pp : l.vpp_group, micro_batches});
}

}  // namespace steploom
