#include "planner/schedule_times.h"

#include <algorithm>
#include <cassert>

namespace steploom {

ScheduleState::ScheduleState(const ScheduleProblem& problem)
    : problem_(&problem),
      seats_(seats_of(problem.placement, problem.shape)),
      chunks_(static_cast<std::size_t>(problem.shape.chunks)),
      m_(static_cast<std::size_t>(problem.shape.micro_batches)),
      ranks_(static_cast<std::size_t>(problem.shape.ranks)) {
  assert(problem.stages.size() ==
         static_cast<std::size_t>(stages_of(problem.placement, problem.shape)));
  for (const Seat& seat : seats_) {
    const StageCosts& c = problem.stages[static_cast<std::size_t>(seat.stage)];
    durations_.insert(durations_.end(), {c.forward, c.data + c.weight, c.data, c.weight});
    const auto message = [&](int to, Picoseconds time) {
      return to < 0 || seats_[static_cast<std::size_t>(to)].rank == seat.rank ? 0 : time;
    };
    to_next_.push_back(message(seat.next, c.to_next));
    to_previous_.push_back(message(seat.previous, c.to_previous));
  }
  clear();
}

void ScheduleState::clear() {
  const std::size_t cells = seats_.size() * m_;
  done_.assign(cells, Done::nothing);
  forward_input_.assign(cells, kUnknown);
  backward_input_.assign(cells, kUnknown);
  // A backward pass at the end of the pipeline follows its own forward pass.
  for (std::size_t seat = 0; seat < seats_.size(); ++seat) {
    const auto first = static_cast<std::ptrdiff_t>(seat * m_);
    const auto count = static_cast<std::ptrdiff_t>(m_);
    if (seats_[seat].previous < 0) std::fill_n(forward_input_.begin() + first, count, 0);
    if (seats_[seat].next < 0) std::fill_n(backward_input_.begin() + first, count, 0);
  }
  std::fill(ranks_.begin(), ranks_.end(), Rank{});
}

void ScheduleState::record(std::size_t rank, const SlotSpec& slot, Picoseconds end) {
  const std::size_t seat = seat_of(rank, slot.chunk), at = cell(seat, slot.micro_batch);
  const Seat& s = seats_[seat];
  const StageCosts& c = costs(rank, slot.chunk);
  Rank& r = ranks_[rank];
  if (slot.kind == SlotKind::forward) {
    done_[at] = Done::forward;
    if (s.next >= 0)
      forward_input_[cell(static_cast<std::size_t>(s.next), slot.micro_batch)] =
          end + to_next_[seat];
    r.held += c.saved;
    r.peak = std::max(r.peak, r.held);
    return;
  }
  if (slot.kind == SlotKind::backward_weight) {
    done_[at] = Done::all;
    r.held -= c.kept;
    return;
  }
  const bool whole = slot.kind == SlotKind::backward;
  done_[at] = whole ? Done::all : Done::data;
  if (s.previous >= 0)
    backward_input_[cell(static_cast<std::size_t>(s.previous), slot.micro_batch)] =
        end + to_previous_[seat];
  r.held -= whole ? c.saved : c.saved - c.kept;
}

SlotTime ScheduleState::place(std::size_t rank, const SlotSpec& slot) {
  Rank& r = ranks_[rank];
  const Picoseconds start = std::max(r.end, ready(rank, slot)), time = duration(rank, slot);
  if (!r.begun) r.first = start;
  r.begun = true;
  r.work += time;
  r.end = start + time;
  record(rank, slot, r.end);
  return {start, r.end};
}

SlotTime ScheduleState::place_pair(std::size_t rank, const SlotSpec& forward,
                                   const SlotSpec& backward) {
  Rank& r = ranks_[rank];
  const Picoseconds start = std::max({r.end, ready(rank, forward), ready(rank, backward)});
  const Picoseconds time =
      duration(rank, forward) + duration(rank, backward) -
      std::min(costs(rank, forward.chunk).hidden, costs(rank, backward.chunk).hidden);
  if (!r.begun) r.first = start;
  r.begun = true;
  r.work += time;
  r.end = start + time;
  record(rank, forward, r.end);
  record(rank, backward, r.end);
  return {start, r.end};
}

Picoseconds ScheduleState::step() const {
  Picoseconds begin = INT64_MAX, end = 0;
  for (const Rank& r : ranks_) {
    begin = std::min(begin, r.first);
    end = std::max(end, r.end);
  }
  return end - begin;
}

Picoseconds ScheduleState::rank_time() const {
  Picoseconds most = 0;
  for (const Rank& r : ranks_) most = std::max(most, r.end - r.first);
  return most;
}

Picoseconds ScheduleState::bubble() const {
  Picoseconds most = 0;
  for (const Rank& r : ranks_) most = std::max(most, r.idle());
  return most;
}

bool ScheduleTimes::fits(const ScheduleProblem& problem) const {
  for (std::size_t r = 0; r < problem.limit.size(); ++r)
    if (peak[r] > problem.limit[r]) return false;
  return true;
}

ScheduleTimes times_of(const ScheduleProblem& problem, const ScheduleSlots& slots) {
  ScheduleState state(problem);
  ScheduleTimes out;
  std::size_t passes = 0, due = 0;
  for (const RankSlots& rank : slots) {
    out.slots.emplace_back(rank.size());
    for (const SlotSpec& s : rank) passes += s.kind == SlotKind::backward ? 2 : 1;
  }
  for (const Seat& seat : state.seats()) due += 3 * static_cast<std::size_t>(seat.count);
  const bool whole = in_order(state, slots, [&](std::size_t r, std::size_t k) {
    const SlotSpec& slot = slots[r][k];
    if (slot.beside_next && k + 1 < slots[r].size()) {
      out.slots[r][k] = out.slots[r][k + 1] = state.place_pair(r, slot, slots[r][k + 1]);
    } else {
      out.slots[r][k] = state.place(r, slot);
    }
    return true;
  });
  if (!whole) {
    out.fault = "a rank waits for what never comes, or a slot is there twice or too early";
  } else if (passes != due) {
    out.fault = "slots are missing";
  }
  out.step = state.step();
  out.rank_time = state.rank_time();
  out.bubble = state.bubble();
  for (std::size_t r = 0; r < state.ranks(); ++r) out.peak.push_back(state.rank(r).peak);
  return out;
}

}  // namespace steploom
