#include "planner/searched_schedule.h"

#include <algorithm>
#include <array>
#include <limits>

#include "models/op_graph.h"
#include "planner/fullest_rank.h"
#include "planner/lower.h"
#include "planner/schedule_seats.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

bool is_message(const OpTemplate& op) {
  return op.stream == static_cast<std::uint16_t>(StreamKind::pp_recv) ||
         op.stream == static_cast<std::uint16_t>(StreamKind::pp_send);
}

Picoseconds time_of(const BlockTemplate& block) {
  std::vector<Picoseconds> end(block.ops.size());
  std::array<Picoseconds, kStreamKinds> stream{};
  Picoseconds last = 0, issued = 0;
  for (std::size_t i = 0; i < block.ops.size(); ++i) {
    const OpTemplate& op = block.ops[i];
    issued += op.launch;
    Picoseconds start = stream[op.stream];
    if (start > 0) start += op.stream_gap;
    for (std::uint32_t d = 0; d < op.deps; ++d)
      start = std::max(start, end[block.deps[op.first_dep + d]]);
    end[i] = stream[op.stream] = start + (is_message(op) ? 0 : op.duration);
    last = std::max(last, end[i]);
  }
  return std::max(last, issued);
}

Picoseconds message_of(const BlockTemplate& block) {
  Picoseconds longest = 0;
  for (const OpTemplate& op : block.ops)
    if (is_message(op) && op.sender) longest = std::max(longest, op.duration);
  return longest;
}

struct Balance {
  Bytes left = 0;       // more than before, when the pass is over
  Bytes temporary = 0;  // at most meanwhile, beside that
};

Balance balance_of(const BlockTemplate& block) {
  Bytes held = 0, most = 0;
  for (const OpTemplate& op : block.ops) {
    held += op.alloc;
    most = std::max(most, held);
    held -= op.free;
  }
  return {held, most - std::max<Bytes>(held, 0)};
}

// Moves the last weight gradients of the rank's first stage to the end.
void end_with_first_stage(RankSlots& slots) {
  const auto last = std::find_if(slots.rbegin(), slots.rend(), [](const SlotSpec& slot) {
    return slot.chunk == 0 && slot.kind != SlotKind::forward;
  });
  std::rotate(last.base() - 1, last.base(), slots.end());
}

RankSlots in_two(const RankSlots& slots) {
  RankSlots out;
  for (SlotSpec slot : slots) {
    const bool whole = slot.kind == SlotKind::backward;
    if (whole) slot.kind = SlotKind::backward_data;
    out.push_back(slot);
    if (whole) out.push_back({SlotKind::backward_weight, slot.micro_batch, slot.chunk});
  }
  return out;
}

}  // namespace

ScheduleProblem schedule_problem(Placement placement, const std::vector<RankOfStages>& ranks,
                                 std::int64_t micro_batches) {
  const int chunks = static_cast<int>(ranks.front().stages.size());
  ScheduleProblem problem{
      placement, {static_cast<int>(ranks.size()), chunks, 0, micro_batches}, {}, {}};
  problem.stages.resize(static_cast<std::size_t>(stages_of(placement, problem.shape)));
  for (const RankOfStages& rank : ranks) problem.limit.push_back(std::max<Bytes>(0, rank.room));
  for (const Seat& seat : seats_of(placement, problem.shape)) {
    const auto rank = static_cast<std::size_t>(seat.rank);
    const StageBlocks& s = ranks[rank].stages[static_cast<std::size_t>(seat.chunk)];
    const Balance f = balance_of(*s.forward), b = balance_of(*s.data), w = balance_of(*s.weight);
    StageCosts& c = problem.stages[static_cast<std::size_t>(seat.stage)];
    c.forward = time_of(*s.forward);
    c.data = time_of(*s.data);
    c.weight = time_of(*s.weight);
    c.to_next = message_of(*s.forward);
    c.to_previous = message_of(*s.data);
    c.kept = std::max<Bytes>(0, -w.left);
    c.saved = std::max(f.left, c.kept);  // B may leave more than the forward pass did
    const Bytes temporary = std::max({f.temporary, b.temporary, w.temporary});
    problem.limit[rank] =
        std::min(problem.limit[rank], std::max<Bytes>(0, ranks[rank].room - temporary));
  }
  return problem;
}

std::vector<TimedSchedule> searched_schedules(Placement placement,
                                              const std::vector<RankOfStages>& ranks,
                                              std::int64_t micro_batches) {
  const ScheduleProblem problem = schedule_problem(placement, ranks, micro_batches);
  const bool v = placement == Placement::v;
  std::optional<FoundSchedule> found = search_schedule(problem);
  if (!found) return {{0, v ? v_min_schedule(problem.shape) : zb_h1_schedule(problem.shape)}};
  std::vector<TimedSchedule> out{{found->step, std::move(found->slots)}};
  for (const NamedSchedule& named : named_schedules()) {
    if (named.placement != problem.placement || !refusal(named, problem.shape).empty()) continue;
    ScheduleSlots slots = named.slots(problem.shape);
    for (RankSlots& rank : slots) rank = in_two(rank);
    const ScheduleTimes times = times_of(problem, slots);
    const bool known = std::any_of(out.begin(), out.end(),
                                   [&](const TimedSchedule& t) { return t.slots == slots; });
    if (times.fits(problem) && !known) out.push_back({times.step, std::move(slots)});
  }
  std::stable_sort(out.begin() + 1, out.end(),
                   [](const TimedSchedule& a, const TimedSchedule& b) { return a.step < b.step; });
  if (v)
    for (TimedSchedule& each : out) end_with_first_stage(each.slots.front());
  return out;
}

ScheduleSlots soonest_schedule(const Setting& setting, const Layout& layout, CostCache& costs,
                               std::vector<TimedSchedule>&& orders) {
  // Contention and waiting for messages change the order of schedules, but hardly by this part.
  constexpr Picoseconds kMargin = 8;
  if (orders.size() == 1) return std::move(orders.front().slots);
  std::size_t best = 0;
  Picoseconds least = std::numeric_limits<Picoseconds>::max();
  for (std::size_t i = 0; i < orders.size(); ++i) {
    if (orders[i].step - orders[i].step / kMargin > orders[best].step) continue;
    Lowered lowered = lower(setting, layout, costs, Folding::folded, &orders[i].slots);
    ClockedProgram clocked(lowered.program);
    if (!clocked.may_beat(least)) continue;
    const Replay r = clocked.replay(setting.replaying());
    const FullestRank fullest = fullest_rank(setting, lowered.program, r.peak_memory);
    if (fullest.peak > fullest.limit || r.makespan >= least) continue;
    least = r.makespan;
    best = i;
  }
  return std::move(orders[best].slots);
}

}  // namespace steploom
