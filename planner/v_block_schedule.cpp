// V-Half and V-Min (Pipeline Parallelism with Controllable Memory, arXiv 2405.15362, section 3):
// a building block, the four passes of one micro-batch on every rank of a V at offsets that
// repeat every six units without collision. The less time lies between a forward pass and its
// backward pass, the fewer micro-batches are in flight: about half or a third of 1F1B's.
//
// The block gives the order of forward passes and B's, and its peak of memory, with W's on the
// first free units, the limit; then idle units are squeezed out and W's laid anew into the gaps
// (schedule_weights.h).
#include <algorithm>
#include <array>
#include <cassert>
#include <tuple>

#include "planner/schedule_weights.h"

namespace steploom {
namespace {

constexpr int kPeriod = 6;  // F, B and W of two chunks, a unit each

// When rank r of p runs F of chunk 0 and of chunk 1, B of chunk 1 and of chunk 0.
using Offsets = std::array<int, 4>;

struct Passes {
  RankSlots order;
  Bytes peak = 0;
};

Passes repeated(const Offsets& offsets, std::int32_t micro_batches) {
  constexpr std::array<std::pair<SlotKind, int>, 4> kPasses{{{SlotKind::forward, 0},
                                                             {SlotKind::forward, 1},
                                                             {SlotKind::backward_data, 1},
                                                             {SlotKind::backward_data, 0}}};
  std::vector<std::pair<int, SlotSpec>> at;  // by unit
  for (std::int32_t i = 0; i < micro_batches; ++i)
    for (std::size_t k = 0; k < offsets.size(); ++k)
      at.emplace_back(offsets[k] + kPeriod * i, SlotSpec{kPasses[k].first, i, kPasses[k].second});
  std::sort(at.begin(), at.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Passes out;
  Bytes held = 0;
  int unit = 0, waiting = 0;
  for (const auto& [when, slot] : at) {
    for (; unit < when && waiting > 0; ++unit, --waiting) --held;  // a W a free unit
    unit = when + 1;
    if (slot.kind == SlotKind::forward) {
      out.peak = std::max(out.peak, ++held);
    } else {
      ++waiting;
    }
    out.order.push_back(slot);
  }
  return out;
}

template <class Block>
ScheduleSlots squeezed(const ScheduleShape& shape, const Block& block) {
  ScheduleProblem problem{Placement::v, shape, {}, {}};
  problem.stages.assign(static_cast<std::size_t>(2 * shape.ranks), {1, 1, 1, 0, 0, 1, 1});
  ScheduleSlots order;
  Bytes peak = 0;
  for (int r = 0; r < shape.ranks; ++r) {
    Passes passes = repeated(block(r, shape.ranks), static_cast<std::int32_t>(shape.micro_batches));
    peak = std::max(peak, passes.peak);
    order.push_back(std::move(passes.order));
  }
  problem.limit.assign(static_cast<std::size_t>(shape.ranks), peak);
  ScheduleState state(problem);
  ScheduleSlots best;
  Picoseconds least = INT64_MAX;
  for (const auto kind : {IdleRule::Kind::never, IdleRule::Kind::always})
    if (auto slots = with_weights(order, {kind}, state); slots && state.rank_time() < least) {
      least = state.rank_time();
      best = std::move(*slots);
    }
  assert(!best.empty());
  return best;
}

}  // namespace

ScheduleSlots v_half_schedule(const ScheduleShape& shape) {
  return squeezed(shape, [](int r, int p) {
    const int wait = p % 2 == 0 ? 3 : 0;  // so that no two passes collide
    return Offsets{2 * r, 3 * p - r - 2, 3 * p + wait + 2 * r - 1, 6 * p + wait - r - 2};
  });
}

ScheduleSlots v_min_schedule(const ScheduleShape& shape) {
  return squeezed(shape, [](int r, int p) {
    const int wait = p % 3 == 0 ? 2 : 0;
    return Offsets{r, 2 * p - r - 1, 2 * p + wait + r, 4 * p + wait - r - 1};
  });
}

}  // namespace steploom
