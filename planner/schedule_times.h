// When the slots of a schedule run, for given times of the stages, and what they hold in memory.
//
// A rank runs its slots one after another, each as soon as its input has arrived. A message takes
// its time beside everything; between two seats of one rank there is none. F takes `saved` bytes
// until its backward pass: B gives back all but `kept`, W gives back `kept`, a whole backward pass
// both. A forward pass beside a backward pass starts when both can, and both end together.
// One pass over the slots.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/pipeline_schedule.h"
#include "planner/schedule_seats.h"
#include "sim/cost.h"

namespace steploom {

// Of one virtual stage and micro-batch.
struct StageCosts {
  Picoseconds forward = 0;
  Picoseconds data = 0;         // B
  Picoseconds weight = 0;       // W
  Picoseconds to_next = 0;      // message after F
  Picoseconds to_previous = 0;  // message after B
  Bytes saved = 1;              // from F on
  Bytes kept = 0;               // of it, from B to W
  // What of the stage's passes can run beside another pass: two side by side take less than one
  // after the other by the lesser of the two. At most the shorter of F and B.
  Picoseconds hidden = 0;
  Picoseconds work() const { return forward + data + weight; }
};

struct ScheduleProblem {
  Placement placement = Placement::loop;
  ScheduleShape shape;
  std::vector<StageCosts> stages;  // by virtual stage
  std::vector<Bytes> limit;        // by rank: the most it may hold; empty: no limit
};

struct SlotTime {
  Picoseconds start = 0, end = 0;
};

struct ScheduleTimes {
  std::string fault;          // why the lists are no schedule; empty: they are one
  Picoseconds step = 0;       // from the first start to the last end
  Picoseconds rank_time = 0;  // the longest that a rank takes from its first start to its last end
  Picoseconds bubble = 0;     // the most that a rank idles between these two
  std::vector<Bytes> peak;    // by rank
  std::vector<std::vector<SlotTime>> slots;

  bool fits(const ScheduleProblem& problem) const;  // the memory limits
};

ScheduleTimes times_of(const ScheduleProblem& problem, const ScheduleSlots& slots);

// A schedule while it is laid out slot by slot, each after those that it depends on.
class ScheduleState {
 public:
  explicit ScheduleState(const ScheduleProblem& problem);
  void clear();

  const ScheduleProblem& problem() const { return *problem_; }
  const std::vector<Seat>& seats() const { return seats_; }
  std::size_t ranks() const { return ranks_.size(); }
  std::size_t seat_of(std::size_t rank, int chunk) const {
    return rank * chunks_ + static_cast<std::size_t>(chunk);
  }

  // Whether the slot may follow what its rank has run, whatever other ranks do.
  bool legal(std::size_t rank, const SlotSpec& slot) const {
    const std::size_t seat = seat_of(rank, slot.chunk);
    const Seat& s = seats_[seat];
    if (slot.micro_batch < s.first || slot.micro_batch >= s.first + s.count) return false;
    const Done done = done_[cell(seat, slot.micro_batch)];
    switch (slot.kind) {
      case SlotKind::forward:
        return done == Done::nothing;
      case SlotKind::backward:
      case SlotKind::backward_data:
        return done == Done::forward;
      case SlotKind::backward_weight:
        return done == Done::data;
      case SlotKind::pair:  // two slots here
      case SlotKind::optimizer:
        break;
    }
    return false;
  }
  // When its input is there; kUnknown while that has not been laid out.
  static constexpr Picoseconds kUnknown = -1;
  Picoseconds ready(std::size_t rank, const SlotSpec& slot) const {
    if (slot.kind == SlotKind::backward_weight) return 0;
    const std::size_t at = cell(seat_of(rank, slot.chunk), slot.micro_batch);
    return slot.kind == SlotKind::forward ? forward_input_[at] : backward_input_[at];
  }
  // Lays it out at the end of its rank; its input must be known.
  SlotTime place(std::size_t rank, const SlotSpec& slot);
  SlotTime place_pair(std::size_t rank, const SlotSpec& forward, const SlotSpec& backward);

  Picoseconds duration(std::size_t rank, const SlotSpec& slot) const {
    return durations_[seat_of(rank, slot.chunk) * kKinds + static_cast<std::size_t>(slot.kind)];
  }
  const StageCosts& costs(std::size_t rank, int chunk) const {
    return problem_->stages[static_cast<std::size_t>(seats_[seat_of(rank, chunk)].stage)];
  }
  struct Rank {
    Picoseconds first = 0, end = 0;
    Picoseconds work = 0;  // so far
    Bytes held = 0, peak = 0;
    bool begun = false;
    Picoseconds idle() const { return end - first - work; }
  };
  const Rank& rank(std::size_t r) const { return ranks_[r]; }
  Bytes limit(std::size_t r) const {
    return problem_->limit.empty() ? kNoLimit : problem_->limit[r];
  }

  Picoseconds step() const;
  Picoseconds rank_time() const;
  Picoseconds bubble() const;

 private:
  static constexpr std::size_t kKinds = 4;  // of SlotKind, without the optimizer
  static constexpr Bytes kNoLimit = INT64_MAX;

  std::size_t cell(std::size_t seat, std::int32_t micro_batch) const {
    return seat * m_ + static_cast<std::size_t>(micro_batch);
  }
  void record(std::size_t rank, const SlotSpec& slot, Picoseconds end);

  const ScheduleProblem* problem_;
  std::vector<Seat> seats_;
  std::size_t chunks_, m_;
  std::vector<Picoseconds> durations_;              // by seat and kind
  std::vector<Picoseconds> to_next_, to_previous_;  // by seat, 0 inside a rank
  enum class Done : std::uint8_t { nothing, forward, data, all };
  // By seat and micro-batch: the last pass that was laid out, and when inputs arrive.
  std::vector<Done> done_;
  std::vector<Picoseconds> forward_input_, backward_input_;
  std::vector<Rank> ranks_;
};

// Goes through all ranks' slots in an order that their dependencies allow: visit(rank, k) lays out
// a slot whose input is known, with the next one if they are a pair, and says whether to go on.
// False: it did not, or some were never reached.
template <class Visit>
bool in_order(const ScheduleState& state, const ScheduleSlots& slots, const Visit& visit) {
  std::vector<std::size_t> at(slots.size()), stack;
  for (std::size_t r = slots.size(); r-- > 0;) stack.push_back(r);
  const auto known = [&](std::size_t r, std::size_t k) {
    return state.ready(r, slots[r][k]) != ScheduleState::kUnknown;
  };
  while (!stack.empty()) {
    const std::size_t r = stack.back();
    stack.pop_back();
    while (at[r] < slots[r].size()) {
      const SlotSpec& slot = slots[r][at[r]];
      const bool pair = slot.beside_next && at[r] + 1 < slots[r].size();
      if (!state.legal(r, slot)) return false;
      if (!known(r, at[r]) || (pair && !known(r, at[r] + 1))) break;
      if (pair && !state.legal(r, slots[r][at[r] + 1])) return false;
      if (!visit(r, at[r])) return false;
      for (const std::size_t k : {at[r], at[r] + (pair ? 1 : 0)}) {
        const SlotSpec& done = slots[r][k];
        const Seat& seat = state.seats()[state.seat_of(r, done.chunk)];
        const int to = done.kind == SlotKind::forward           ? seat.next
                       : done.kind == SlotKind::backward_weight ? -1
                                                                : seat.previous;
        if (to >= 0)
          if (const auto other =
                  static_cast<std::size_t>(state.seats()[static_cast<std::size_t>(to)].rank);
              other != r)
            stack.push_back(other);
      }
      at[r] += pair ? 2 : 1;
    }
  }
  for (std::size_t r = 0; r < slots.size(); ++r)
    if (at[r] < slots[r].size()) return false;
  return true;
}

}  // namespace steploom
