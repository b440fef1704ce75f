// The scheduler against its bound, the named schedules and, where they can be gone through, all
// orders.
#include "planner/schedule_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/planner/schedule_costs.h"
#include "tests/planner/zero_bubble_rules.h"

namespace steploom {
namespace {

Picoseconds goal_of(const ScheduleTimes& t, ScheduleGoal goal) {
  return goal == ScheduleGoal::step ? t.step : t.rank_time;
}

// Whatever the stages take, bound <= found <= every named schedule that fits, and what was found is
// what it says and fits.
TEST(ScheduleSearch, BetweenTheBoundAndTheNamedSchedules) {
  std::uint32_t seed = 0;
  int better = 0, met = 0;
  for (const Placement placement : {Placement::loop, Placement::v, Placement::bidirectional})
    for (const int p : {2, 3, 4, 6})
      for (const int chunks : {1, 2, 3})
        for (const int m : {p, 2 * p, 3 * p + 2})
          for (const int quarters : {0, 2, 3, 4}) {  // of 1F1B's activations; 0: no limit
            if (placement != Placement::loop && chunks != 2) continue;
            if (placement == Placement::bidirectional && (p % 2 != 0 || m < 2 * p || m % 2 != 0))
              continue;
            const ScheduleShape shape{p, chunks, 0, m};
            ScheduleProblem problem = uneven_problem(placement, shape, ++seed);
            if (quarters > 0)
              problem.limit.assign(static_cast<std::size_t>(p),
                                   std::max(chunks + 1, p * chunks * quarters / 4 + 1));
            for (const ScheduleGoal goal : {ScheduleGoal::step, ScheduleGoal::rank_time}) {
              const auto found = search_schedule(problem, {goal});
              Picoseconds least = INT64_MAX;
              for (const NamedSchedule& named : named_schedules()) {
                if (named.placement != placement || !refusal(named, shape).empty()) continue;
                const ScheduleTimes t = times_of(problem, named.slots(shape));
                if (t.fits(problem)) least = std::min(least, goal_of(t, goal));
              }
              if (!found) {
                EXPECT_EQ(placement, Placement::bidirectional);
                EXPECT_EQ(least, INT64_MAX);
                continue;
              }
              const ScheduleTimes t = times_of(problem, found->slots);
              EXPECT_EQ(t.fault, "");
              EXPECT_TRUE(t.fits(problem));
              EXPECT_EQ(goal_of(t, goal), found->time);
              EXPECT_LE(found->bound, found->time) << found->from;
              EXPECT_LE(found->time, least);
              better += found->time < least;
              met += found->time == found->bound;
            }
          }
  EXPECT_GT(better, 100);
  EXPECT_GT(met, 10);
}

// Every order of the slots of every rank, depth first; the least time of those that fit.
class AllOrders {
 public:
  explicit AllOrders(const ScheduleProblem& problem) : problem_(problem) {
    next_.resize(static_cast<std::size_t>(problem.shape.ranks));
    slots_.resize(next_.size());
    for (auto& of_rank : next_)
      of_rank.assign(static_cast<std::size_t>(problem.shape.chunks), {0, 0, 0});
  }

  // Micro-batches are alike, so each kind of pass takes them in turn.
  Picoseconds least(std::size_t rank = 0) {
    if (rank == slots_.size()) {
      const ScheduleTimes t = times_of(problem_, slots_);
      return t.fault.empty() ? t.step : INT64_MAX;
    }
    Picoseconds best = INT64_MAX;
    const auto m = static_cast<std::int32_t>(problem_.shape.micro_batches);
    bool whole = true;
    for (std::size_t c = 0; c < next_[rank].size(); ++c)
      for (std::size_t kind = 0; kind < 3; ++kind) {
        auto& n = next_[rank][c];
        if (n[kind] == m) continue;
        whole = false;
        if (kind > 0 && n[kind] == n[kind - 1]) continue;
        if (kind == 0 && held(rank) == problem_.limit[rank]) continue;
        constexpr SlotKind kKinds[]{SlotKind::forward, SlotKind::backward_data,
                                    SlotKind::backward_weight};
        slots_[rank].push_back({kKinds[kind], n[kind]++, static_cast<std::int32_t>(c)});
        best = std::min(best, least(rank));
        slots_[rank].pop_back();
        --n[kind];
      }
    return whole ? least(rank + 1) : best;
  }

 private:
  Bytes held(std::size_t rank) const {
    Bytes sum = 0;
    for (const auto& n : next_[rank]) sum += n[0] - n[2];
    return sum;
  }

  const ScheduleProblem& problem_;
  std::vector<std::vector<std::array<std::int32_t, 3>>> next_;  // by rank, chunk and kind
  ScheduleSlots slots_;
};

// No order beats the bound, and the scheduler finds the best one or comes within what it says.
TEST(ScheduleSearch, AllOrdersOfSmallPipelines) {
  int best = 0, tried = 0;
  for (std::uint32_t seed = 1; seed <= 6; ++seed)
    for (const Bytes limit : {1, 2, 3}) {
      const std::int64_t m = 2 + seed % 2;
      ScheduleProblem problem = uneven_problem(Placement::loop, {2, 1, 0, m}, seed);
      problem.limit.assign(2, limit);
      const Picoseconds least = AllOrders(problem).least();
      const auto found = search_schedule(problem);
      ASSERT_TRUE(found);
      EXPECT_LE(found->bound, least);
      EXPECT_GE(found->time, least);
      EXPECT_LE(found->time, least + least / 20) << "seed " << seed << ", limit " << limit;
      best += found->time == least;
      ++tried;
    }
  EXPECT_GE(best, tried * 3 / 4);
}

// Equal stages: the bounds are met at the named schedules' own memory.
TEST(ScheduleSearch, MeetsTheBoundOnEqualStages) {
  for (const int p : {4, 8})
    for (const int m : {2 * p, 4 * p}) {
      ScheduleProblem line =
          even_problem(Placement::loop, {p, 1, 0, m}, {100, 100, 100, 0, 0, 1, 1});
      line.limit.assign(static_cast<std::size_t>(p), p);
      const auto h1 = search_schedule(line);
      EXPECT_EQ(h1->time, h1->bound);
      EXPECT_EQ(h1->time, 300 * m + 100 * (p - 1));
      line.limit.assign(static_cast<std::size_t>(p), 2 * p - 1);
      const auto h2 = search_schedule(line, {ScheduleGoal::rank_time});
      EXPECT_EQ(h2->time, 300 * m);
      ScheduleProblem v = even_problem(Placement::v, {p, 2, 0, m}, {50, 50, 50, 0, 0, 1, 1});
      v.limit.assign(static_cast<std::size_t>(p), 2 * p);
      const auto zbv = search_schedule(v, {ScheduleGoal::rank_time});
      EXPECT_EQ(zbv->time, 300 * m);
      EXPECT_EQ(zbv->bubble, 0);
    }
}

// Stages of times from 60 to 140, one in four problems with all alike; in a V all are alike. From
// 1F1B's activations to twice as many.
ScheduleProblem drawn_problem(Placement placement, int chunks, std::uint32_t seed) {
  std::mt19937 random(seed);
  const int p = 2 + static_cast<int>(random() % 8), m = p + static_cast<int>(random() % 30);
  const bool even = random() % 4 == 0;
  const auto message = static_cast<Picoseconds>(random() % 2 * (random() % 20));
  ScheduleProblem problem{placement, {p, chunks, 0, m}, {}, {}};
  const auto time = [&] { return even ? 100 : static_cast<Picoseconds>(60 + random() % 81); };
  for (int s = 0; s < chunks * p; ++s) {
    problem.stages.push_back({time(), time(), time(), message, message, 1, 1, 0});
    if (placement == Placement::v) problem.stages.back() = problem.stages.front();
  }
  problem.limit.assign(static_cast<std::size_t>(p),
                       chunks * p + static_cast<Bytes>(random() % static_cast<unsigned>(p)));
  return problem;
}

// What zero-bubble's scheduler would run, the best of all its settings; INT64_MAX: it finds
// nothing.
Picoseconds zero_bubbles(const ScheduleProblem& problem, ScheduleGoal goal) {
  Picoseconds best = INT64_MAX;
  const auto take = [&](const ScheduleSlots& slots) {
    const ScheduleTimes t = times_of(problem, slots);
    EXPECT_EQ(t.fault, "");
    EXPECT_TRUE(t.fits(problem));
    best = std::min(best, goal_of(t, goal));
  };
  for (int k = 0; k < 8; ++k) {
    if (problem.placement == Placement::loop) {
      const ZeroBubbleLine line(problem, {(k & 4) != 0, (k & 2) != 0, (k & 1) != 0, false});
      if (line.fits) take(line.slots);
      continue;
    }
    if (k >= 4) break;
    Picoseconds before = INT64_MAX;
    for (std::vector<Picoseconds> idle;;) {
      const ZeroBubbleV v(problem, {false, false, (k & 1) != 0, (k & 2) != 0}, idle);
      if (!v.fits) break;
      take(v.slots);
      if (v.most_idle() >= before) break;
      before = v.most_idle();
      idle = v.idle;
    }
  }
  return best;
}

TEST(ScheduleSearch, NeverLongerThanZeroBubblesRules) {
  int shorter = 0, compared = 0;
  for (const auto& [placement, chunks] :
       {std::pair{Placement::loop, 1}, std::pair{Placement::v, 2}})
    for (std::uint32_t seed = 1; seed <= 60; ++seed)
      for (const ScheduleGoal goal : {ScheduleGoal::step, ScheduleGoal::rank_time}) {
        const ScheduleProblem problem = drawn_problem(placement, chunks, seed);
        const Picoseconds theirs = zero_bubbles(problem, goal);
        if (theirs == INT64_MAX) continue;
        const auto found = search_schedule(problem, {goal});
        EXPECT_LE(found->time, theirs) << "chunks " << chunks << ", seed " << seed;
        shorter += found->time < theirs;
        ++compared;
      }
  EXPECT_GT(compared, 200);
  EXPECT_GT(shorter, 50);
}

TEST(ScheduleSearch, SaysWhereNothingFits) {
  ScheduleProblem problem = even_problem(Placement::v, {4, 2, 0, 8}, {100, 100, 100, 0, 0, 1, 1});
  problem.limit.assign(4, 1);  // a rank must hold a micro-batch on both of its chunks
  EXPECT_FALSE(search_schedule(problem));
}

}  // namespace
}  // namespace steploom
