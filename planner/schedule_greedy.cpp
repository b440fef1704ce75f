#include "planner/schedule_greedy.h"

#include <algorithm>
#include <cassert>
#include <functional>
#include <queue>

namespace steploom {
namespace {

class Greedy {
 public:
  Greedy(const GreedyRule& rule, ScheduleState& state)
      : rule_(rule),
        state_(state),
        chunks_(static_cast<std::size_t>(state.problem().shape.chunks)),
        m_(static_cast<std::int32_t>(state.problem().shape.micro_batches)),
        ranks_(state.ranks()),
        out_(state.ranks()) {
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      Rank& rank = ranks_[r];
      rank.forward.resize(chunks_);
      rank.data.resize(chunks_);
      for (std::size_t c = chunks_; c-- > 0;) {
        rank.later.insert(rank.later.begin(),
                          rank.later.empty()
                              ? 0
                              : rank.later.front() + state.costs(r, static_cast<int>(c) + 1).saved);
        rank.load += m_ * state.costs(r, static_cast<int>(c)).work();
      }
      out_[r].reserve(3 * chunks_ * static_cast<std::size_t>(m_));
      events_.push({0, r});
    }
  }

  std::optional<ScheduleSlots> run() {
    state_.clear();
    std::size_t left = ranks_.size() * chunks_ * static_cast<std::size_t>(m_) * 3;
    while (!events_.empty()) {
      const auto [now, r] = events_.top();
      events_.pop();
      if (now < state_.rank(r).end) continue;  // busy; it is asked again when it ends
      if (step(r, now)) --left;
    }
    if (left > 0) return std::nullopt;
    return std::move(out_);
  }

 private:
  struct Rank {
    std::vector<std::int32_t> forward, data;  // by chunk: the next micro-batch
    std::vector<Bytes> later;                 // by chunk: what one micro-batch takes on later ones
    std::size_t weight = 0;                   // into waiting
    RankSlots waiting;                        // W's
    bool after_backward = false;
    Picoseconds load = 0;
  };
  struct Event {
    Picoseconds at;
    std::size_t rank;
    auto operator<=>(const Event&) const = default;
  };

  // Runs something on a free rank, or says when to ask again.
  bool step(std::size_t r, Picoseconds now) {
    Rank& rank = ranks_[r];
    Picoseconds next = INT64_MAX;  // when the next known input arrives
    bool full = false;             // a forward pass lacks nothing but memory
    std::optional<SlotSpec> best;
    const bool forward_first = rule_.alternate && rank.after_backward;
    if (forward_first) best = ready_forward(r, now, next, full);
    if (!best) best = ready_backward(r, now, next);
    if (!best && next != INT64_MAX && next - now <= rule_.patience) {
      events_.push({next, r});
      return false;
    }
    if (!best && !forward_first) best = ready_forward(r, now, next, full);
    if (!best && rank.weight < rank.waiting.size() && (full || fills(r, now, next)))
      best = rank.waiting[rank.weight];
    if (best) {
      put(r, *best);
      return true;
    }
    if (next != INT64_MAX) events_.push({next, r});
    return false;
  }

  std::optional<SlotSpec> ready_backward(std::size_t r, Picoseconds now, Picoseconds& next) const {
    const Rank& rank = ranks_[r];
    for (std::size_t k = 0; k < chunks_; ++k) {
      const std::size_t c = rule_.late_backward_first ? chunks_ - 1 - k : k;
      if (rank.data[c] == rank.forward[c]) continue;
      const SlotSpec slot{SlotKind::backward_data, rank.data[c], static_cast<std::int32_t>(c)};
      const Picoseconds ready = state_.ready(r, slot);
      if (ready == ScheduleState::kUnknown) continue;
      if (ready <= now) return slot;
      next = std::min(next, ready);
    }
    return std::nullopt;
  }

  std::optional<SlotSpec> ready_forward(std::size_t r, Picoseconds now, Picoseconds& next,
                                        bool& full) const {
    const Rank& rank = ranks_[r];
    for (std::size_t k = 0; k < chunks_; ++k) {
      const std::size_t c = chunks_ - 1 - k;
      if (rank.forward[c] == m_) continue;
      const SlotSpec slot{SlotKind::forward, rank.forward[c], static_cast<std::int32_t>(c)};
      Picoseconds ready = state_.ready(r, slot);
      if (ready == ScheduleState::kUnknown) continue;
      if (state_.seats()[state_.seat_of(r, slot.chunk)].previous < 0)
        ready = (slot.micro_batch - rule_.at_once) * rule_.pace;
      const Bytes takes = state_.costs(r, slot.chunk).saved + rank.later[c];
      if (state_.rank(r).held > state_.limit(r) - takes) {
        full = full || ready <= now;
      } else if (ready <= now) {
        return slot;
      } else {
        next = std::min(next, ready);
      }
    }
    return std::nullopt;
  }

  // Whether a W runs now, with other work to come at `next`.
  bool fills(std::size_t r, Picoseconds now, Picoseconds next) const {
    const Rank& rank = ranks_[r];
    if (next == INT64_MAX || now + state_.duration(r, rank.waiting[rank.weight]) <= next)
      return true;
    const ScheduleState::Rank& at = state_.rank(r);
    const Picoseconds idle = at.idle() + next - at.end;
    switch (rule_.idle.kind) {
      case IdleRule::Kind::never:
        return false;
      case IdleRule::Kind::always:
        return true;
      case IdleRule::Kind::deadline:
        return at.first + rank.load + idle > rule_.idle.deadline;
      case IdleRule::Kind::span:
        return rank.load + idle > rule_.idle.deadline;
    }
    return false;
  }

  void put(std::size_t r, const SlotSpec& slot) {
    Rank& rank = ranks_[r];
    const auto c = static_cast<std::size_t>(slot.chunk);
    const Seat& seat = state_.seats()[state_.seat_of(r, slot.chunk)];
    out_[r].push_back(slot);
    int to = -1;
    if (slot.kind == SlotKind::forward) {
      ++rank.forward[c];
      rank.after_backward = false;
      to = seat.next;
    } else if (slot.kind == SlotKind::backward_data) {
      ++rank.data[c];
      rank.after_backward = true;
      to = seat.previous;
      rank.waiting.push_back({SlotKind::backward_weight, slot.micro_batch, slot.chunk});
    } else {
      ++rank.weight;
    }
    state_.place(r, slot);
    events_.push({state_.rank(r).end, r});
    if (to >= 0) {
      const Seat& other = state_.seats()[static_cast<std::size_t>(to)];
      const auto rank_to = static_cast<std::size_t>(other.rank);
      const Picoseconds arrival = state_.ready(rank_to, {slot.kind, slot.micro_batch, other.chunk});
      // A busy rank looks when it ends.
      if (rank_to != r && arrival > state_.rank(rank_to).end) events_.push({arrival, rank_to});
    }
  }

  const GreedyRule& rule_;
  ScheduleState& state_;
  std::size_t chunks_;
  std::int32_t m_;
  std::vector<Rank> ranks_;
  ScheduleSlots out_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
};

}  // namespace

std::optional<ScheduleSlots> greedy_schedule(const GreedyRule& rule, ScheduleState& state) {
  assert(state.problem().placement != Placement::bidirectional);
  return Greedy(rule, state).run();
}

}  // namespace steploom
