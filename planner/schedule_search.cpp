#include "planner/schedule_search.h"

#include <algorithm>
#include <utility>

#include "planner/schedule_greedy.h"
#include "planner/schedule_rounds.h"
#include "planner/schedule_warm_up.h"

namespace steploom {
namespace {

// Of a schedule that is longer than the best by this part, other places for its W's are not tried;
constexpr Picoseconds kHopeless = 8;
// nor, in large problems, of one that is longer by this part, and no other schedules where the best
// is above the bound by less than it.
constexpr Picoseconds kClose = 32;
// nor, there, is one improved that is above it by less than this part.
constexpr Picoseconds kThere = 4096;
constexpr std::int64_t kLarge = 20'000;  // slots

class Search {
 public:
  Search(const ScheduleProblem& problem, const ScheduleEffort& effort)
      : problem_(problem), effort_(effort), state_(problem) {
    const ScheduleBound bound = schedule_bound(problem);
    best_.bound = effort.goal == ScheduleGoal::step ? bound.step : bound.rank_time;
    best_.time = INT64_MAX;
  }

  std::optional<FoundSchedule> run() {
    try_named();
    if (problem_.placement == Placement::loop && problem_.shape.chunks == 1) try_in_line();
    if (problem_.placement == Placement::v && problem_.shape.chunks == 2) try_v_rounds();
    if (problem_.placement != Placement::bidirectional && !within(kClose)) try_greedy();
    if (best_.slots.empty()) return std::nullopt;
    if (!enough()) tighten();
    auto left = static_cast<int>(std::min<std::int64_t>(effort_.moves, effort_.slots / slots()));
    while (left > 0 && !enough())
      if (!improve(left)) break;
    return std::move(best_);
  }

 private:
  std::int64_t slots() const {
    return static_cast<std::int64_t>(state_.seats().size()) * 3 * problem_.shape.micro_batches;
  }
  // Of what is in `state_`.
  Picoseconds time() const {
    return effort_.goal == ScheduleGoal::step ? state_.step() : state_.rank_time();
  }
  bool done() const { return best_.time <= best_.bound; }
  // A large problem's best is above the bound by less than this part.
  bool within(Picoseconds part) const {
    return slots() > kLarge && best_.time - best_.bound < best_.bound / part;
  }
  bool enough() const { return done() || within(kThere); }

  // What is in `state_`; `slots` as they are, `order` what the W's were laid into.
  bool take(ScheduleSlots&& slots, std::string_view from) {
    ++best_.tried;
    if (time() >= best_.time) return false;
    best_.slots = std::move(slots);
    best_.step = state_.step();
    best_.rank_time = state_.rank_time();
    best_.bubble = state_.bubble();
    best_.time = time();
    best_.from = from;
    return true;
  }

  // The order with W's laid anew; true if that is the best so far.
  bool fill(const ScheduleSlots& order, const IdleRule& rule, std::string_view from) {
    std::optional<ScheduleSlots> slots = with_weights(order, rule, state_);
    return slots && take(std::move(*slots), from);
  }

  void try_named() {
    const Picoseconds hopeless = slots() > kLarge ? kClose : kHopeless;
    std::vector<ScheduleSlots> orders;
    for (const NamedSchedule& named : named_schedules()) {
      if (done()) return;
      if (named.placement != problem_.placement || !refusal(named, problem_.shape).empty())
        continue;
      ScheduleSlots slots = named.slots(problem_.shape);
      ScheduleSlots order = without_weights(slots);
      state_.clear();
      const bool fits = in_order(state_, slots, [&](std::size_t r, std::size_t k) {
        const SlotSpec& slot = slots[r][k];
        if (slot.beside_next)
          state_.place_pair(r, slot, slots[r][k + 1]);
        else
          state_.place(r, slot);
        return state_.rank(r).peak <= state_.limit(r);
      });
      const Picoseconds own = time();
      if (fits) take(std::move(slots), named.name);
      if (fits && own > best_.time + best_.time / hopeless) continue;
      if (std::find(orders.begin(), orders.end(), order) != orders.end()) continue;
      for (const auto kind : {IdleRule::Kind::never, IdleRule::Kind::always})
        if (!done()) fill(order, {kind}, named.name);
      orders.push_back(std::move(order));
    }
  }

  void try_in_line() {
    for (const bool past : {false, true}) {
      for (const auto kind : {IdleRule::Kind::never, IdleRule::Kind::always})
        if (!done()) fill(warm_up_order(problem_, past), {kind}, "warm-up");
      for (const bool yield : {false, true})
        for (const bool busy : {false, true}) {
          if (done()) return;
          if (auto slots = rounds_schedule({past, yield, busy}, state_))
            take(std::move(*slots), "rounds");
        }
    }
  }

  void try_v_rounds() {
    for (const bool busy_backward : {false, true})
      for (const bool busy_forward : {false, true}) {
        VRoundsRule rule{busy_forward, busy_backward, {}};
        // Again with what ranks idled, as long as the longest idles less.
        for (Picoseconds before = INT64_MAX; !done();) {
          std::optional<ScheduleSlots> slots = v_rounds_schedule(rule, state_);
          if (!slots) return;
          take(std::move(*slots), "rounds");
          if (state_.bubble() >= before) break;
          before = state_.bubble();
          rule.idled.clear();
          for (std::size_t r = 0; r < state_.ranks(); ++r)
            rule.idled.push_back(state_.rank(r).idle());
        }
      }
  }

  void try_greedy() {
    Picoseconds load = 0;  // of the busiest rank, a micro-batch
    for (std::size_t r = 0; r < state_.ranks(); ++r) {
      Picoseconds sum = 0;
      for (int c = 0; c < problem_.shape.chunks; ++c) sum += state_.costs(r, c).work();
      load = std::max(load, sum);
    }
    // Micro-batches that may enter at once: all, then half as many while that is better.
    Picoseconds before = INT64_MAX;
    for (int at_once = problem_.shape.ranks; !done(); at_once /= 2) {
      Picoseconds least = INT64_MAX;
      for (const bool alternate : {true, false})
        for (const bool patient : {true, false}) {
          GreedyRule rule;
          rule.alternate = rule.late_backward_first = alternate;
          rule.pace = load * 9 / 10;
          rule.at_once = at_once;
          if (patient) rule.patience = load / (6 * problem_.shape.chunks);  // half a pass
          std::optional<ScheduleSlots> slots = greedy_schedule(rule, state_);
          if (!slots) return;
          least = std::min(least, time());
          take(std::move(*slots), "greedy");
        }
      if (least >= before || at_once == 0) return;
      before = least;
    }
  }

  // W's that wait for a rank's own deadline: between the bound and the best time.
  void tighten() {
    const ScheduleSlots order = without_weights(best_.slots);
    const std::string from = best_.from;
    fill(order, {}, from);
    Picoseconds low = best_.bound, high = best_.time;
    for (int i = 0; i < 5 && low < high && !enough(); ++i) {
      const Picoseconds deadline = low + (high - low) / 2;
      const Picoseconds before = best_.time;
      const auto kind =
          effort_.goal == ScheduleGoal::step ? IdleRule::Kind::deadline : IdleRule::Kind::span;
      if (fill(order, {kind, deadline}, from)) rule_ = {kind, deadline};
      if (best_.time < before)
        high = std::min(high, best_.time);
      else
        low = deadline + 1;
    }
  }

  // A swap of two neighbours on the critical path that ends sooner. False: none does.
  bool improve(int& left) {
    const ScheduleTimes times = times_of(problem_, best_.slots);
    ScheduleSlots order = without_weights(best_.slots);
    const std::string from = best_.from;
    for (const auto& [rank, k] : swaps(times)) {
      if (left-- <= 0) return false;
      SlotSpec &a = order[rank][k], &b = order[rank][k + 1];
      std::swap(a, b);
      if (fill(order, rule_, from)) return true;
      std::swap(a, b);
    }
    return false;
  }

  // Neighbours in the order without W's of which the second one waits for the first on the critical
  // path alone, from the end backwards.
  std::vector<std::pair<std::size_t, std::size_t>> swaps(const ScheduleTimes& times) const {
    std::vector<std::pair<std::size_t, std::size_t>> out;
    const ScheduleSlots& slots = best_.slots;
    // Where a slot is, by seat, kind (forward or backward) and micro-batch.
    const std::vector<Seat>& seats = state_.seats();
    const auto m = static_cast<std::size_t>(problem_.shape.micro_batches);
    std::vector<std::size_t> at(seats.size() * 2 * m);
    const auto key = [&](std::size_t seat, bool forward, std::int32_t i) {
      return (seat * 2 + (forward ? 0 : 1)) * m + static_cast<std::size_t>(i);
    };
    std::vector<std::vector<std::size_t>> passes(slots.size());  // F's and B's up to here
    std::size_t rank = 0;
    Picoseconds end = 0;
    for (std::size_t r = 0; r < slots.size(); ++r) {
      std::size_t n = 0;
      for (std::size_t k = 0; k < slots[r].size(); ++k) {
        const SlotSpec& s = slots[r][k];
        passes[r].push_back(n);
        if (s.kind == SlotKind::backward_weight) continue;
        ++n;
        at[key(state_.seat_of(r, s.chunk), s.kind == SlotKind::forward, s.micro_batch)] = k;
      }
      const Picoseconds length =
          times.slots[r].back().end -
          (effort_.goal == ScheduleGoal::step ? 0 : times.slots[r].front().start);
      if (length > end) {
        end = length;
        rank = r;
      }
    }
    std::size_t k = slots[rank].size() - 1;
    for (;;) {
      const SlotSpec& s = slots[rank][k];
      const SlotTime& time = times.slots[rank][k];
      const Seat& seat = seats[state_.seat_of(rank, s.chunk)];
      const bool forward = s.kind == SlotKind::forward;
      const int input = s.kind == SlotKind::backward_weight ? -1
                        : forward                           ? seat.previous
                                                            : seat.next;
      if (k > 0 && times.slots[rank][k - 1].end == time.start) {
        const SlotSpec& before = slots[rank][k - 1];
        if (s.kind != SlotKind::backward_weight && before.kind != SlotKind::backward_weight &&
            (s.kind != before.kind || s.chunk != before.chunk))
          out.emplace_back(rank, passes[rank][k - 1]);
        --k;
        continue;
      }
      if (input < 0 || (k == 0 && time.start == 0)) break;
      const auto other = static_cast<std::size_t>(seats[static_cast<std::size_t>(input)].rank);
      k = at[key(static_cast<std::size_t>(input), forward, s.micro_batch)];
      rank = other;
    }
    return out;
  }

  const ScheduleProblem& problem_;
  const ScheduleEffort& effort_;
  ScheduleState state_;
  FoundSchedule best_;
  IdleRule rule_{};
};

}  // namespace

std::optional<FoundSchedule> search_schedule(const ScheduleProblem& problem,
                                             const ScheduleEffort& effort) {
  return Search(problem, effort).run();
}

}  // namespace steploom
