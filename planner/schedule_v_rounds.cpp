#include <algorithm>
#include <cassert>

#include "planner/schedule_rounds.h"

namespace steploom {
namespace {

class VRounds {
 public:
  VRounds(const VRoundsRule& rule, ScheduleState& state)
      : rule_(rule),
        state_(state),
        m_(static_cast<std::int32_t>(state.problem().shape.micro_batches)),
        ranks_(state.ranks()),
        out_(state.ranks()) {
    state_.clear();
    for (RankSlots& slots : out_) slots.reserve(6 * static_cast<std::size_t>(m_));
    if (!rule_.idled.empty()) {
      const Picoseconds most = *std::max_element(rule_.idled.begin(), rule_.idled.end());
      for (std::size_t r = 0; r < ranks_.size(); ++r) ranks_[r].allowed = most - rule_.idled[r];
    }
  }

  std::optional<ScheduleSlots> run() {
    if (!warm_up()) return std::nullopt;
    for (std::int32_t i = 0; i < 2 * m_; ++i)
      if (!wave_of_data() || !wave_of_forward()) return std::nullopt;
    for (std::size_t r = 0; r < ranks_.size(); ++r)
      while (waits(r)) weight(r);
    return std::move(out_);
  }

 private:
  struct Rank {
    std::int32_t forward[2] = {}, data[2] = {};  // by chunk: the next micro-batch
    RankSlots waiting;                           // W's, from `weight` on
    std::size_t weight = 0;
    Picoseconds allowed = 0;
  };

  SlotSpec next(std::size_t r, SlotKind kind, int chunk) const {
    const Rank& rank = ranks_[r];
    return {kind, (kind == SlotKind::forward ? rank.forward : rank.data)[chunk], chunk};
  }
  bool waits(std::size_t r) const { return ranks_[r].weight < ranks_[r].waiting.size(); }
  void weight(std::size_t r) { run_slot(r, ranks_[r].waiting[ranks_[r].weight++]); }
  void run_slot(std::size_t r, const SlotSpec& slot) {
    state_.place(r, slot);
    out_[r].push_back(slot);
    most_idle_ = std::max(most_idle_, state_.rank(r).idle());
  }
  bool room(std::size_t r, int chunk) const {
    return state_.rank(r).held <= state_.limit(r) - state_.costs(r, chunk).saved;
  }
  bool put(std::size_t r, SlotKind kind, int chunk) {
    const SlotSpec slot = next(r, kind, chunk);
    if (!state_.legal(r, slot) || state_.ready(r, slot) == ScheduleState::kUnknown) return false;
    if (kind == SlotKind::forward && !room(r, chunk)) return false;
    Rank& rank = ranks_[r];
    ++(kind == SlotKind::forward ? rank.forward : rank.data)[chunk];
    if (kind == SlotKind::backward_data)
      rank.waiting.push_back({SlotKind::backward_weight, slot.micro_batch, chunk});
    run_slot(r, slot);
    return true;
  }
  bool put_after_weights(std::size_t r, SlotKind kind, int chunk, bool busy) {
    const ScheduleState::Rank& rank = state_.rank(r);
    while (kind == SlotKind::forward && !room(r, chunk) && waits(r)) weight(r);
    const Picoseconds ready = state_.ready(r, next(r, kind, chunk));
    const auto ends = [&] {
      return rank.end + state_.duration(r, ranks_[r].waiting[ranks_[r].weight]);
    };
    while (waits(r) && ends() <= ready) weight(r);
    const Picoseconds may = std::max(most_idle_, ranks_[r].allowed) - rank.idle();
    if (busy && waits(r) && rank.end < ready && ready - rank.end > may) weight(r);
    return put(r, kind, chunk);
  }

  // The first micro-batch goes down and up again; ranks fill the time until it is back with further
  // ones of chunk 0, then take both chunks in turn until they have run as many as the first rank.
  bool warm_up() {
    const std::size_t p = ranks_.size();
    for (std::size_t r = 0; r < p; ++r)
      if (!put(r, SlotKind::forward, 0)) return false;
    for (std::size_t r = p; r-- > 0;) {
      const Picoseconds back = state_.ready(r, next(r, SlotKind::forward, 1));
      const auto may = [&] {
        const StageCosts& c = state_.costs(r, 0);
        const Bytes later =
            static_cast<Bytes>(r) * (c.saved + state_.costs(r, 1).saved) + state_.costs(r, 1).saved;
        return r + 1 < p && ranks_[r].forward[0] < m_ &&
               state_.rank(r).held <= state_.limit(r) - c.saved - later &&
               state_.rank(r).end + c.forward <= back;
      };
      while (may())
        for (std::size_t k = 0; k <= r; ++k)
          if (!put(k, SlotKind::forward, 0)) return false;
      if (!put(r, SlotKind::forward, 1)) return false;
    }
    int chunk = 0;
    const auto all = [&](std::size_t r) { return ranks_[r].forward[0] + ranks_[r].forward[1]; };
    for (std::size_t r = 1; r < p; ++r)
      while (all(r) < all(r - 1) ||
             (ranks_[r].forward[1] <= ranks_[r - 1].forward[1] && ranks_[r - 1].forward[1] < m_)) {
        for (std::size_t k = p; k-- > r;)
          if (ranks_[k].forward[chunk] < m_ && !put(k, SlotKind::forward, chunk)) return false;
        chunk = 1 - chunk;
      }
    return true;
  }

  bool laid_out(std::size_t r, SlotKind kind, int chunk) const {
    return state_.ready(r, next(r, kind, chunk)) != ScheduleState::kUnknown;
  }

  bool wave_of_data() {
    const std::size_t p = ranks_.size();
    std::vector<std::size_t> down;
    std::vector<std::size_t> up;
    for (std::size_t r = 0; r < p; ++r) {
      const Rank& rank = ranks_[r];
      const bool home = rank.data[0] < rank.data[1] &&
                        (rank.data[1] == m_ || laid_out(r, SlotKind::backward_data, 0));
      (home ? up : down).push_back(r);
    }
    for (std::size_t k = up.size(); k-- > 0;)
      if (!put_after_weights(up[k], SlotKind::backward_data, 0, true)) return false;
    for (const std::size_t r : down)
      if (!put_after_weights(r, SlotKind::backward_data, 1, rule_.busy_backward)) return false;
    return true;
  }

  bool wave_of_forward() {
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      const Rank& rank = ranks_[r];
      if (rank.forward[1] == m_) continue;
      int chunk = 0;
      if (rank.forward[1] < rank.forward[0]) {
        if (laid_out(r, SlotKind::forward, 1))
          chunk = 1;
        else if (rank.forward[0] == m_ || !laid_out(r, SlotKind::forward, 0))
          continue;
      }
      if (!put_after_weights(r, SlotKind::forward, chunk, rule_.busy_forward)) return false;
    }
    return true;
  }

  const VRoundsRule& rule_;
  ScheduleState& state_;
  std::int32_t m_;
  std::vector<Rank> ranks_;
  ScheduleSlots out_;
  Picoseconds most_idle_ = 0;
};

}  // namespace

std::optional<ScheduleSlots> v_rounds_schedule(const VRoundsRule& rule, ScheduleState& state) {
  assert(state.problem().placement == Placement::v && state.problem().shape.chunks == 2);
  return VRounds(rule, state).run();
}

}  // namespace steploom
