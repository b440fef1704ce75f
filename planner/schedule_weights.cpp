#include "planner/schedule_weights.h"

#include <algorithm>

namespace steploom {

ScheduleSlots without_weights(const ScheduleSlots& slots) {
  ScheduleSlots out;
  for (const RankSlots& rank : slots) {
    RankSlots& kept = out.emplace_back();
    for (SlotSpec slot : rank) {
      if (slot.kind == SlotKind::backward_weight) continue;
      if (slot.kind == SlotKind::backward) slot.kind = SlotKind::backward_data;
      slot.beside_next = false;
      kept.push_back(slot);
    }
  }
  return out;
}

std::optional<ScheduleSlots> with_weights(const ScheduleSlots& order, const IdleRule& rule,
                                          ScheduleState& state) {
  state.clear();
  const std::size_t ranks = state.ranks();
  std::vector<Picoseconds> load(ranks);
  for (const Seat& seat : state.seats())
    load[static_cast<std::size_t>(seat.rank)] +=
        seat.count * state.problem().stages[static_cast<std::size_t>(seat.stage)].work();
  ScheduleSlots out(ranks), waiting(ranks);  // waiting: W's, from next[rank] on
  std::vector<std::size_t> next(ranks);
  for (std::size_t r = 0; r < ranks; ++r) {
    out[r].reserve(order[r].size() * 3 / 2);
    waiting[r].reserve(order[r].size() / 2);
  }
  const auto weight = [&](std::size_t r) {
    out[r].push_back(waiting[r][next[r]++]);
    state.place(r, out[r].back());
  };
  const auto waits = [&](std::size_t r) { return next[r] < waiting[r].size(); };
  const bool whole = in_order(state, order, [&](std::size_t r, std::size_t k) {
    const SlotSpec& slot = order[r][k];
    const ScheduleState::Rank& rank = state.rank(r);
    const Bytes limit = state.limit(r);
    const Bytes takes =
        slot.kind == SlotKind::forward ? state.costs(r, slot.chunk).saved : Bytes{0};
    while (limit - takes < rank.held && waits(r)) weight(r);
    if (rank.held > limit - takes) return false;
    const Picoseconds ready = state.ready(r, slot);
    while (waits(r) && rank.end + state.duration(r, waiting[r][next[r]]) <= ready) weight(r);
    if (rank.begun && waits(r) && rank.end < ready) {
      const Picoseconds idle = rank.idle() + ready - rank.end;
      const bool fill =
          rule.kind == IdleRule::Kind::always ||
          (rule.kind == IdleRule::Kind::deadline && rank.first + load[r] + idle > rule.deadline) ||
          (rule.kind == IdleRule::Kind::span && load[r] + idle > rule.deadline);
      if (fill) weight(r);
    }
    out[r].push_back(slot);
    state.place(r, slot);
    if (slot.kind == SlotKind::backward_data)
      waiting[r].push_back({SlotKind::backward_weight, slot.micro_batch, slot.chunk});
    return true;
  });
  if (!whole) return std::nullopt;
  for (std::size_t r = 0; r < ranks; ++r)
    while (waits(r)) weight(r);
  return out;
}

}  // namespace steploom
