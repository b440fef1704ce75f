#include "tools/step_timeline.h"

#include <fmt/format.h>

#include "models/error.h"
#include "planner/samples.h"
#include "planner/search.h"
#include "sim/check.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

std::int64_t operators_of_all_ranks(const Program& p) {
  std::int64_t sum = 0;
  for (std::uint32_t s = 0; s < p.slots.size(); ++s)
    sum += static_cast<std::int64_t>(p.blocks[p.slots[s].block].ops.size()) *
           p.devices[p.device_of_slot[s]].multiplicity;
  return sum;
}

}  // namespace

TimelineOrigin origin_of(const Asked& asked, TimelineOrigin origin) {
  const Setting& s = asked.question->setting();
  origin.model = s.model.name;
  origin.cluster = devices_text(s.cluster);
  origin.layout = to_text(asked.layout);
  origin.runtime = s.runtime.name;
  origin.profile = asked.question->profile_name();
  origin.profile_digest = asked.question->profile_digest();
  if (asked.plan) origin.plan_digest = digest_of(to_json(*asked.plan));
  return origin;
}

ReplayedStep replay_step(const Asked& asked, Folding folding) {
  CostCache costs(asked.question->setting().costs);
  if (!asked.plan && has_samples(asked.question->setting()))
    asked.question->use_sample(evaluate(asked.question->setting(), asked.layout, costs).sample);
  const Setting& s = asked.question->setting();
  ReplayedStep step{lower(s, asked.layout, costs, Folding::folded), {}};
  if (folding == Folding::unfolded) {
    const std::int64_t operators = operators_of_all_ranks(step.lowered.program);
    if (operators > kMostExported)
      throw Error(
          {"export", "", fmt::format("at most {} operators on all ranks together", kMostExported),
           std::to_string(operators), "fewer micro-batches in a step (--global-batch) look alike"});
    step.lowered = lower(s, asked.layout, costs, Folding::unfolded);
  }
  // A fault here is ours; a runtime would hang or compute wrongly on it.
  if (const auto faults = check(step.lowered.program); !faults.empty())
    throw std::logic_error("a program that does not check: " + faults.front());
  ReplayOptions options = s.replaying();
  options.record_memory = true;
  const Replay replayed = replay_at_clock(step.lowered.program, options);
  step.timeline = make_timeline(step.lowered.program, replayed);
  step.timeline.origin = origin_of(asked, std::move(step.timeline.origin));
  return step;
}

}  // namespace steploom
