// The scheduler beside the named schedules: bubble, time and bound, and how long it thinks.
//
// Rows: stages in line ("line", one a rank) or in a V (two a rank, half as long), p ranks, m
// micro-batches, the memory limit in percent of 1F1B's activations, equal stages (F = B = W) or
// unequal ones (each of F, B, W 70 to 130 % of that). Messages take 5 % of F. Columns: bubbles in
// percent of the busiest rank's work: of a step, as it must be at least (bound), as found (ours)
// and of each named schedule that fits the memory.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>

#include "planner/schedule_search.h"

namespace steploom {
namespace {

ScheduleProblem problem_of(int chunks, int p, int m, int percent, bool unequal) {
  ScheduleProblem problem;
  problem.placement = chunks == 1 ? Placement::loop : Placement::v;
  problem.shape = {p, chunks, 0, m};
  std::mt19937 random(static_cast<std::uint32_t>(p));
  const auto time = [&] {
    return (unequal ? 70 + static_cast<Picoseconds>(random() % 61) : Picoseconds{100}) * 1000 /
           chunks;
  };
  for (int s = 0; s < p * chunks; ++s) {
    StageCosts stage;
    stage.forward = time();
    stage.data = time();
    stage.weight = time();
    stage.to_next = stage.to_previous = 5000;
    stage.saved = stage.kept = 1;
    problem.stages.push_back(stage);
  }
  problem.limit.assign(static_cast<std::size_t>(p),
                       std::max(chunks + 1, p * chunks * percent / 100));
  return problem;
}

void schedule(benchmark::State& state, int chunks, bool unequal) {
  const auto p = static_cast<int>(state.range(0));
  const int m = p * static_cast<int>(state.range(1));
  const ScheduleProblem problem =
      problem_of(chunks, p, m, static_cast<int>(state.range(2)), unequal);
  std::optional<FoundSchedule> found;
  for (auto _ : state) found = search_schedule(problem);
  Picoseconds load = 0;
  for (const Seat& seat : seats_of(problem.placement, problem.shape)) {
    Picoseconds sum = 0;
    for (const Seat& other : seats_of(problem.placement, problem.shape))
      if (other.rank == seat.rank)
        sum += problem.stages[static_cast<std::size_t>(other.stage)].work();
    load = std::max(load, sum * m);
  }
  const auto percent = [&](Picoseconds step) {
    return 100.0 * static_cast<double>(step - load) / static_cast<double>(load);
  };
  if (found) {
    state.counters["0:bound"] = percent(found->bound);
    state.counters["1:ours"] = percent(found->step);
  }
  for (const NamedSchedule& named : named_schedules()) {
    if (named.placement != problem.placement || !refusal(named, problem.shape).empty()) continue;
    const ScheduleTimes times = times_of(problem, named.slots(problem.shape));
    if (times.fits(problem)) state.counters[std::string(named.name)] = percent(times.step);
  }
}

const auto kShapes = [](benchmark::internal::Benchmark* b) {
  b->ArgNames({"p", "times", "memory"});
  for (const int p : {4, 8, 16, 32, 64})
    for (const int times : {1, 2, 3, 4, 8})
      for (const int percent : {50, 75, 100, 200}) b->Args({p, times, percent});
  b->Unit(benchmark::kMillisecond)->MinTime(0.02);
};

BENCHMARK_CAPTURE(schedule, line_equal, 1, false)->Apply(kShapes);
BENCHMARK_CAPTURE(schedule, line_unequal, 1, true)->Apply(kShapes);
BENCHMARK_CAPTURE(schedule, v_equal, 2, false)->Apply(kShapes);
BENCHMARK_CAPTURE(schedule, v_unequal, 2, true)->Apply(kShapes);

}  // namespace
}  // namespace steploom
