#include "planner/samples.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "planner/fullest_rank.h"
#include "planner/lower.h"
#include "sim/engine.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

using Draws = std::vector<std::pair<Picoseconds, int>>;  // time, sample

std::pair<Picoseconds, int> quantile_of(Draws& sorted, double quantile) {
  return sorted[static_cast<std::size_t>(quantile_rank(quantile, static_cast<int>(sorted.size()))) -
                1];
}

}  // namespace

bool has_samples(const Setting& s) {
  return s.work.routing.random() && s.work.routing.samples > 1 && s.model.has_moe();
}

Setting of_sample(const Setting& setting, int sample) {
  Setting out = setting;
  out.sample = sample;
  return out;
}

int quantile_rank(double quantile, int draws) {
  constexpr double kRounding = 1e-9;
  return std::clamp(static_cast<int>(std::ceil(quantile * draws - kRounding)), 1, draws);
}

Sampled sample_steps(const Setting& s, CostCache& costs, Picoseconds to_beat, Candidate& c) {
  const Routing& routing = s.work.routing;
  const int may_be_slow = routing.samples - quantile_rank(routing.quantile, routing.samples);
  const bool rivals = to_beat < std::numeric_limits<Picoseconds>::max();
  Draws relaxed, steps;
  const auto play = [&](const Program& program, ClockedProgram clocked, int sample) {
    const Replay r = clocked.replay(s.replaying());
    steps.emplace_back(r.makespan, sample);
    const FullestRank fullest = fullest_rank(s, program, r.peak_memory);
    if (steps.size() > 1 && fullest.peak - fullest.limit <= c.memory - c.limit) return;
    c.memory = fullest.peak;
    c.limit = fullest.limit;
  };
  int slow = 0;
  for (int i = 0; i < routing.samples; ++i) {
    Lowered lowered = lower(of_sample(s, i), c.layout, costs);
    ClockedProgram clocked(lowered.program);
    relaxed.emplace_back(clocked.relaxed(), i);
    if (relaxed.back().first >= to_beat && ++slow > may_be_slow) return Sampled::relaxed;
    if (!rivals) play(lowered.program, std::move(clocked), i);
  }
  std::sort(relaxed.begin(), relaxed.end());
  slow = 0;
  for (auto draw = relaxed.rbegin(); rivals && draw != relaxed.rend(); ++draw) {  // slowest first
    Lowered lowered = lower(of_sample(s, draw->second), c.layout, costs);
    play(lowered.program, ClockedProgram(lowered.program), draw->second);
    if (steps.back().first >= to_beat && ++slow > may_be_slow) return Sampled::replayed;
  }
  std::sort(steps.begin(), steps.end());
  c.relaxed = quantile_of(relaxed, routing.quantile).first;
  std::tie(c.step, c.sample) = quantile_of(steps, routing.quantile);
  c.median = quantile_of(steps, 0.5).first;
  c.p95 = quantile_of(steps, 0.95).first;
  return Sampled::all;
}

}  // namespace steploom
