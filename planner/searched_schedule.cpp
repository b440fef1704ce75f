#include "planner/searched_schedule.h"

#include <algorithm>
#include <array>

#include "models/op_graph.h"
#include "planner/schedule_seats.h"

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

ScheduleSlots searched_schedule(Placement placement, const std::vector<RankOfStages>& ranks,
                                std::int64_t micro_batches) {
  const ScheduleProblem problem = schedule_problem(placement, ranks, micro_batches);
  std::optional<FoundSchedule> found = search_schedule(problem);
  if (placement == Placement::loop)
    return found ? std::move(found->slots) : zb_h1_schedule(problem.shape);
  if (!found) return v_min_schedule(problem.shape);
  RankSlots& first = found->slots.front();
  const auto last = std::find_if(first.rbegin(), first.rend(), [](const SlotSpec& slot) {
    return slot.chunk == 0 && slot.kind != SlotKind::forward;
  });
  std::rotate(last.base() - 1, last.base(), first.end());
  return std::move(found->slots);
}

}  // namespace steploom
