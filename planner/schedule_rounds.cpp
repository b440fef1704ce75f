#include "planner/schedule_rounds.h"

#include <algorithm>
#include <cassert>

#include "planner/schedule_warm_up.h"

namespace steploom {
namespace {

class Rounds {
 public:
  Rounds(const RoundsRule& rule, ScheduleState& state)
      : rule_(rule),
        state_(state),
        m_(static_cast<std::int32_t>(state.problem().shape.micro_batches)),
        ranks_(state.ranks()),
        out_(state.ranks()) {
    state_.clear();
    for (RankSlots& slots : out_) slots.reserve(3 * static_cast<std::size_t>(m_));
  }

  std::optional<ScheduleSlots> run() {
    const std::size_t p = ranks_.size();
    const std::vector<std::int32_t> warm = warm_up_counts(state_.problem(), rule_.past);
    for (std::size_t r = 0; r < p; ++r)
      while (ranks_[r].forward < warm[r]) put(r, SlotKind::forward);
    for (std::size_t r = p; r-- > 0;) put(r, SlotKind::backward_data);
    std::vector<bool> wave(p);
    for (std::int32_t i = 1; i < m_; ++i) {
      for (std::size_t r = 0; r < p; ++r) wave[r] = wants_forward(r);
      // What the next rank does not take now need not be sent.
      for (std::size_t r = p - 1; r-- > 0;) wave[r] = wave[r] && wave[r + 1];
      for (std::size_t r = 0; r < p; ++r)
        if (wave[r] && !run_after_weights(r, SlotKind::forward)) return std::nullopt;
      for (std::size_t r = p; r-- > 0;)
        if (!run_after_weights(r, SlotKind::backward_data)) return std::nullopt;
    }
    for (std::size_t r = 0; r < p; ++r)
      while (waits(r)) put(r, SlotKind::backward_weight);
    return std::move(out_);
  }

 private:
  struct Rank {
    std::int32_t forward = 0, data = 0, weight = 0;  // the next micro-batch of each
  };

  bool waits(std::size_t r) const { return ranks_[r].weight < ranks_[r].data; }
  SlotSpec next(std::size_t r, SlotKind kind) const {
    const Rank& rank = ranks_[r];
    return {kind, kind == SlotKind::forward         ? rank.forward
                  : kind == SlotKind::backward_data ? rank.data
                                                    : rank.weight};
  }
  void put(std::size_t r, SlotKind kind) {
    Rank& rank = ranks_[r];
    const SlotSpec slot = next(r, kind);
    ++(kind == SlotKind::forward         ? rank.forward
       : kind == SlotKind::backward_data ? rank.data
                                         : rank.weight);
    state_.place(r, slot);
    out_[r].push_back(slot);
    most_idle_ = std::max(most_idle_, state_.rank(r).idle());
  }
  // Whether another rank has idled as long as this one will have at `until`.
  bool may_idle(std::size_t r, Picoseconds until) const {
    const ScheduleState::Rank& rank = state_.rank(r);
    return until - rank.end <= most_idle_ - rank.idle();
  }

  bool wants_forward(std::size_t r) const {
    const Rank& rank = ranks_[r];
    if (rank.forward == m_) return false;
    if (!rule_.yield || r + 1 == ranks_.size() || rank.forward < ranks_[r + 1].forward + 2)
      return true;
    const ScheduleState::Rank& now = state_.rank(r);
    const StageCosts &own = state_.costs(r, 0), &after = state_.costs(r + 1, 0);
    const Picoseconds back =
        state_.rank(r + 1).end + after.forward + after.data + after.to_previous;
    if (now.end >= back) return false;
    Picoseconds needs = own.forward;
    Bytes held = now.held;
    for (auto w = rank.weight; held > state_.limit(r) - own.saved && w < rank.data; ++w) {
      needs += own.weight;
      held -= own.kept;
    }
    return now.end + needs <= back || !may_idle(r, back);
  }

  bool run_after_weights(std::size_t r, SlotKind kind) {
    const ScheduleState::Rank& rank = state_.rank(r);
    const bool forward = kind == SlotKind::forward;
    if (!forward && ranks_[r].data == ranks_[r].forward) return false;
    const Bytes room = state_.limit(r) - (forward ? state_.costs(r, 0).saved : 0);
    const auto weight = [&] { put(r, SlotKind::backward_weight); };
    while (rank.held > room) {
      if (!waits(r)) return false;
      weight();
    }
    const Picoseconds ready = state_.ready(r, next(r, kind));
    while (waits(r) && rank.end + state_.costs(r, 0).weight <= ready) weight();
    if (waits(r) && rank.end < ready && (rule_.busy || !may_idle(r, ready))) weight();
    if (!forward && r == 0 && ranks_[0].forward == m_)
      while (waits(r)) weight();
    put(r, kind);
    return true;
  }

  const RoundsRule& rule_;
  ScheduleState& state_;
  std::int32_t m_;
  std::vector<Rank> ranks_;
  ScheduleSlots out_;
  Picoseconds most_idle_ = 0;
};

}  // namespace

std::optional<ScheduleSlots> rounds_schedule(const RoundsRule& rule, ScheduleState& state) {
  assert(state.problem().placement == Placement::loop && state.problem().shape.chunks == 1);
  return Rounds(rule, state).run();
}

}  // namespace steploom
