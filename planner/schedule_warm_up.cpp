#include "planner/schedule_warm_up.h"

#include <algorithm>
#include <cassert>

namespace steploom {

std::vector<std::int32_t> warm_up_counts(const ScheduleProblem& problem, bool past) {
  assert(problem.placement == Placement::loop && problem.shape.chunks == 1);
  const std::vector<StageCosts>& stages = problem.stages;
  const std::size_t p = stages.size();
  const auto m = static_cast<std::int32_t>(problem.shape.micro_batches);
  std::vector<Picoseconds> begin(p);
  for (std::size_t s = 1; s < p; ++s)
    begin[s] = begin[s - 1] + stages[s - 1].forward + stages[s - 1].to_next;
  std::vector<std::int32_t> count(p, 1);
  Picoseconds arrives = 0;  // the first B's input
  for (std::size_t s = p; s-- > 0;) {
    const StageCosts& c = stages[s];
    Picoseconds end = begin[s] + c.forward;
    const auto fits = [&](std::int32_t n) {
      return problem.limit.empty() || n * c.saved <= problem.limit[s];
    };
    while (count[s] < m && fits(count[s] + 1) &&
           (past ? end : end + c.forward) <= arrives - (past ? 1 : 0)) {
      ++count[s];
      end += c.forward;
    }
    arrives = std::max(arrives, end) + c.data + c.to_previous;
  }
  for (std::size_t s = 1; s < p; ++s)
    if (std::min(count[s], count[s - 1]) < m)
      count[s] = std::max(1, std::min(count[s], count[s - 1] - 1));
  return count;
}

ScheduleSlots warm_up_order(const ScheduleProblem& problem, bool past) {
  const auto m = static_cast<std::int32_t>(problem.shape.micro_batches);
  const std::vector<std::int32_t> count = warm_up_counts(problem, past);
  ScheduleSlots out(count.size());
  for (std::size_t s = 0; s < out.size(); ++s) {
    std::int32_t next = 0;
    while (next < count[s]) out[s].push_back({SlotKind::forward, next++});
    for (std::int32_t i = 0; i < m; ++i) {
      out[s].push_back({SlotKind::backward_data, i});
      if (next < m) out[s].push_back({SlotKind::forward, next++});
    }
  }
  return out;
}

}  // namespace steploom
