// Interleaved 1F1B, as Megatron-Core orders it.
#include <algorithm>
#include <cassert>
#include <cstddef>

#include "planner/pipeline_schedule.h"

namespace steploom {
namespace {

struct Visit {
  std::int32_t micro_batch, chunk;
};

// In which order a rank's chunks meet the micro-batches, forward.
std::vector<Visit> visits(const Interleaving& shape) {
  const auto m = static_cast<std::int32_t>(shape.micro_batches);
  std::vector<Visit> order;
  for (std::int32_t first = 0; first < m; first += shape.group)
    for (std::int32_t chunk = 0; chunk < shape.chunks; ++chunk)
      for (std::int32_t i = first; i < std::min(first + shape.group, m); ++i)
        order.push_back({i, chunk});
  return order;
}

}  // namespace

std::vector<SlotSpec> interleaved(int stage, const Interleaving& shape) {
  assert(stage >= 0 && stage < shape.stages && shape.group >= shape.stages);
  const std::vector<Visit> order = visits(shape);
  const std::size_t all = order.size();
  const auto warm = std::min(
      all, static_cast<std::size_t>(2 * (shape.stages - 1 - stage) +
                                    (shape.chunks - 1) * shape.group + (shape.beside ? 1 : 0)));
  std::vector<SlotSpec> slots;
  slots.reserve(2 * all);
  const auto forward = [&](std::size_t k) {
    slots.push_back({SlotKind::forward, order[k].micro_batch, order[k].chunk});
  };
  for (std::size_t k = 0; k < warm; ++k) forward(k);
  for (std::size_t k = 0; k < all; ++k) {
    if (warm + k < all) {
      forward(warm + k);
      slots.back().beside_next = shape.beside;
    }
    slots.push_back({SlotKind::backward, order[k].micro_batch, shape.chunks - 1 - order[k].chunk});
  }
  return slots;
}

}  // namespace steploom
