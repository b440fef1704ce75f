// The named schedules: legal in every shape that they allow, with the bubbles and the memory of
// their papers.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "planner/schedule_times.h"
#include "tests/planner/schedule_costs.h"

namespace steploom {
namespace {

constexpr StageCosts stage(Picoseconds f, Picoseconds b, Picoseconds w) {
  return {f, b, w, 0, 0, 1, 1};
}

ScheduleTimes run(std::string_view name, const ScheduleShape& shape, const StageCosts& costs) {
  const NamedSchedule* named = find_schedule(name);
  EXPECT_NE(named, nullptr) << name;
  EXPECT_EQ(refusal(*named, shape), "");
  const ScheduleTimes times =
      times_of(even_problem(named->placement, shape, costs), named->slots(shape));
  EXPECT_EQ(times.fault, "") << name;
  return times;
}

Bytes most(const std::vector<Bytes>& peak) {
  return *std::max_element(peak.begin(), peak.end());
}

TEST(Schedules, LegalInEveryShapeTheyAllow) {
  for (const NamedSchedule& named : named_schedules()) {
    int allowed = 0;
    for (int p = 1; p <= 9; ++p)
      for (std::int64_t m = 1; m <= 24; ++m)
        for (const int chunks : {1, 2, 3})
          for (const int group : {0, p + 1}) {
            const ScheduleShape shape{p, chunks, group, m};
            if (!refusal(named, shape).empty()) continue;
            ++allowed;
            for (const std::uint32_t seed : {0U, 1U}) {
              const ScheduleProblem problem =
                  seed == 0 ? even_problem(named.placement, shape, stage(1, 1, 1))
                            : uneven_problem(named.placement, shape, seed);
              EXPECT_EQ(times_of(problem, named.slots(shape)).fault, "")
                  << named.name << ", " << p << " ranks, " << chunks << " chunks, " << m
                  << " micro-batches in groups of " << group;
            }
          }
    EXPECT_GT(allowed, 0) << named.name;
  }
}

TEST(Schedules, SayWhatTheyLack) {
  const auto why = [](std::string_view name, const ScheduleShape& shape) {
    return refusal(*find_schedule(name), shape);
  };
  EXPECT_EQ(why("zb-v", {4, 3, 0, 8}), "zb-v needs two chunks a rank, found 3");
  EXPECT_EQ(why("1f1b", {4, 2, 0, 8}), "1f1b needs one chunk a rank, found 2");
  EXPECT_EQ(why("looped-bfs", {4, 1, 0, 8}), "looped-bfs needs two or more chunks a rank, found 1");
  EXPECT_EQ(why("dualpipe", {3, 2, 0, 8}), "dualpipe needs an even number of ranks");
  EXPECT_EQ(why("dualpipe-v", {4, 2, 0, 7}),
            "dualpipe-v needs twice as many micro-batches as ranks");
  EXPECT_EQ(why("interleaved", {4, 2, 3, 8}),
            "interleaved needs groups of at least as many micro-batches as ranks");
  EXPECT_EQ(find_schedule("zb-h3"), nullptr);
}

// PipeDream-Flush and GPipe: (p − 1)(F + B + W); several chunks: of a chunk's times.
TEST(Schedules, BubbleOfOneForwardOneBackward) {
  for (const int p : {2, 3, 4, 8})
    for (const int k : {1, 2, 4}) {
      const StageCosts costs = stage(10, 12, 7);
      const Picoseconds bubble = (p - 1) * (10 + 12 + 7);
      for (const char* name : {"gpipe", "1f1b"})
        EXPECT_EQ(run(name, {p, 1, 0, k * p}, costs).bubble, bubble) << name;
      for (const char* name : {"interleaved", "looped-bfs"})
        for (const int v : {2, 3})
          EXPECT_EQ(run(name, {p, v, 0, k * p}, costs).bubble, bubble) << name;
    }
}

// Zero bubble (arXiv 2401.10241, table 1): H1 (p − 1)(F + B − W), H2 (p − 1)(F + B − 2W); the
// schedules are made for F = B = W. V none.
TEST(Schedules, BubbleOfZeroBubble) {
  for (const int p : {2, 3, 4, 8, 12})
    for (const int m : {2 * p, 3 * p, 8 * p}) {
      const StageCosts costs = stage(5, 5, 5);
      EXPECT_EQ(run("zb-h1", {p, 1, 0, m}, costs).bubble, (p - 1) * 5);
      EXPECT_EQ(run("zb-h2", {p, 1, 0, m}, costs).bubble, 0);
      EXPECT_EQ(run("zb-v", {p, 2, 0, m}, costs).bubble, 0);
      for (const int v : {2, 3})
        EXPECT_EQ(run("interleaved-zb", {p, v, 0, m}, costs).bubble, (p - 1) * 5);
      // A longer forward pass than W's: H1's formula holds too.
      EXPECT_EQ(run("zb-h1", {p, 1, 0, m}, stage(6, 6, 4)).bubble, (p - 1) * (6 + 6 - 4));
    }
}

// Controllable memory (arXiv 2405.15362, table 1), of 1F1B's bubble 6(p − 1) in passes of a chunk:
// at most half, and two thirds with what collisions cost.
TEST(Schedules, BubbleOfControllableMemory) {
  for (const int p : {2, 4, 6, 8, 16, 32}) {
    const Picoseconds half = run("v-half", {p, 2, 0, 4 * p}, stage(1, 1, 1)).bubble;
    EXPECT_LE(half, 3 * (p - 1));
    EXPECT_GE(half, 2 * (p - 2));
    const Picoseconds third = run("v-min", {p, 2, 0, 4 * p}, stage(1, 1, 1)).bubble;
    EXPECT_LE(third, 4 * (p - 1) + 2);
    EXPECT_GE(third, 4 * (p - 1) - 1);
  }
}

// DeepSeek's table: (p/2 − 1)(F&B + B − 3W), B the whole backward pass; DualPipeV as on twice as
// many ranks. Where a pair hides something, ranks differ in how many pairs they run, and the
// busiest ones have less of a bubble than that.
TEST(Schedules, BubbleOfDualPipe) {
  for (const int p : {2, 4, 6, 8, 12})
    for (const int m : {2 * p, 4 * p})
      for (const Picoseconds hidden : {0, 3}) {
        StageCosts costs = stage(10, 10, 10);
        costs.hidden = hidden;
        const Picoseconds both = 10 + 20 - hidden, bubble = both + 20 - 3 * 10;
        const Picoseconds two_ways = run("dualpipe", {p, 2, 0, m}, costs).bubble;
        const Picoseconds v = run("dualpipe-v", {p, 2, 0, m}, costs).bubble;
        EXPECT_LE(two_ways, (p / 2 - 1) * bubble);
        EXPECT_LE(v, (p - 1) * bubble);
        if (hidden > 0) continue;
        EXPECT_EQ(two_ways, (p / 2 - 1) * bubble);
        EXPECT_EQ(v, (p - 1) * bubble);
      }
}

// In stages' activations of one micro-batch.
TEST(Schedules, Memory) {
  for (const int p : {2, 4, 6, 8, 12}) {
    const int m = 4 * p;
    const StageCosts costs = stage(1, 1, 1);
    const ScheduleTimes simple = run("1f1b", {p, 1, 0, m}, costs);
    for (int s = 0; s < p; ++s) EXPECT_EQ(simple.peak[static_cast<std::size_t>(s)], p - s);
    EXPECT_EQ(most(run("gpipe", {p, 1, 0, m}, costs).peak), m);
    for (const Bytes peak : run("zb-h1", {p, 1, 0, m}, costs).peak) EXPECT_LE(peak, p);
    for (const Bytes peak : run("zb-h2", {p, 1, 0, m}, costs).peak) EXPECT_LE(peak, 2 * p - 1);
    for (const Bytes peak : run("zb-v", {p, 2, 0, m}, costs).peak) EXPECT_LE(peak, 2 * p);
    EXPECT_LE(most(run("v-half", {p, 2, 0, m}, costs).peak), p + 2);
    EXPECT_LE(most(run("v-min", {p, 2, 0, m}, costs).peak), (2 * p + 8) / 3);
    for (const Bytes peak : run("dualpipe", {p, 2, 0, m}, costs).peak) EXPECT_LE(peak, p + 1);
    for (const Bytes peak : run("dualpipe-v", {p, 2, 0, m}, costs).peak) EXPECT_LE(peak, 2 * p + 1);
  }
}

// Two ranks, one micro-batch, messages of 3: F 0–10 | F 13–33, B 33–43, W 43–48 | B 46–52, W 52–59.
// B gives back 60 of 100 bytes.
TEST(ScheduleTimes, ByHand) {
  ScheduleProblem problem{Placement::loop, {2, 1, 0, 1}, {}, {}};
  problem.stages = {{10, 6, 7, 3, 3, 100, 40}, {20, 10, 5, 3, 3, 50, 10}};
  const RankSlots slots{
      {SlotKind::forward, 0}, {SlotKind::backward_data, 0}, {SlotKind::backward_weight, 0}};
  const ScheduleTimes t = times_of(problem, {slots, slots});
  EXPECT_EQ(t.fault, "");
  EXPECT_EQ(t.slots[0][1].start, 46);
  EXPECT_EQ(t.slots[1][2].end, 48);
  EXPECT_EQ(t.step, 59);
  EXPECT_EQ(t.bubble, 36);  // rank 0 between 10 and 46
  EXPECT_EQ(t.peak, (std::vector<Bytes>{100, 50}));
  problem.limit = {100, 49};
  EXPECT_FALSE(t.fits(problem));
}

// The turn of a V is on one rank: no message there.
TEST(ScheduleTimes, TheTurnOfAVSendsNothing) {
  ScheduleProblem problem{Placement::v, {1, 2, 0, 1}, {}, {}};
  problem.stages.assign(2, {10, 10, 10, 1000, 1000, 1, 1});
  const NamedSchedule& v = *find_schedule("zb-v");
  EXPECT_EQ(times_of(problem, v.slots(problem.shape)).step, 60);
}

TEST(ScheduleTimes, RefusesWhatIsNoSchedule) {
  const ScheduleProblem problem = even_problem(Placement::loop, {2, 1, 0, 1}, stage(1, 1, 1));
  const SlotSpec f{SlotKind::forward, 0}, b{SlotKind::backward, 0};
  EXPECT_EQ(times_of(problem, {{f, b}, {f, b}}).fault, "");
  EXPECT_NE(times_of(problem, {{f, b}, {b, f}}).fault, "");     // backward first
  EXPECT_NE(times_of(problem, {{f, b}, {f, b, b}}).fault, "");  // twice
  EXPECT_EQ(times_of(problem, {{f, b}, {f}}).fault,
            "a rank waits for what never comes, or a slot is there twice or too early");
  EXPECT_EQ(times_of(problem, {{f}, {f, b}}).fault, "slots are missing");
}

}  // namespace
}  // namespace steploom
