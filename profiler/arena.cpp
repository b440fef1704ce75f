#include "profiler/arena.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace steploom {
namespace {

Bytes aligned(Bytes bytes) {
  return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

// May both be alive at one time?
bool meet(const Life& a, const Life& b, const DeviceClocks& clocks) {
  const Life& first = a.begin < b.begin ? a : b;
  const Life& second = a.begin < b.begin ? b : a;
  return first.end >= second.begin || !clocks.knows(second.begin, first.end);
}

Bytes live_peak(std::span<const Life> lives) {
  std::vector<std::pair<std::uint32_t, Bytes>> changes;  // after a begin or an end
  for (const Life& l : lives) {
    changes.emplace_back(2 * l.begin, l.bytes);
    changes.emplace_back(2 * l.end + 1, -l.bytes);
  }
  std::sort(changes.begin(), changes.end());
  Bytes now = 0, peak = 0;
  for (const auto& [at, bytes] : changes) peak = std::max(peak, now += bytes);
  return peak;
}

// Each life in the given order at the lowest offset that is free of all it may meet.
ArenaPlan place(std::span<const Life> lives, const std::vector<std::size_t>& order,
                const DeviceClocks& clocks) {
  ArenaPlan plan;
  plan.offsets.assign(lives.size(), 0);
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t i : order) {
    const Bytes size = aligned(lives[i].bytes);
    Bytes at = 0;
    for (const std::size_t other : placed) {
      if (plan.offsets[other] >= at + size) break;
      const Bytes end = plan.offsets[other] + aligned(lives[other].bytes);
      if (end > at && meet(lives[i], lives[other], clocks)) at = end;
    }
    plan.offsets[i] = at;
    plan.bytes = std::max(plan.bytes, at + size);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), at,
                                   [&](Bytes offset, std::size_t other) {
                                     return offset < plan.offsets[other];
                                   }),
                  i);
  }
  return plan;
}

}  // namespace

ArenaPlan plan_arena(std::span<const Life> lives, const DeviceClocks& clocks) {
  std::vector<std::size_t> order(lives.size());
  std::iota(order.begin(), order.end(), 0);
  const auto span = [&](std::size_t i) { return lives[i].end - lives[i].begin; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lives[a].bytes > lives[b].bytes; });
  ArenaPlan best = place(lives, order, clocks);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return span(a) > span(b); });
  ArenaPlan other = place(lives, order, clocks);
  if (other.bytes < best.bytes) best = std::move(other);
  best.live_peak = live_peak(lives);
  return best;
}

}  // namespace steploom
