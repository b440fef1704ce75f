#include "planner/pipeline_schedule.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace steploom {
namespace {

ScheduleSlots one_forward_one_backward_schedule(const ScheduleShape& shape) {
  ScheduleSlots out;
  for (int s = 0; s < shape.ranks; ++s)
    out.push_back(one_forward_one_backward(s, shape.ranks, shape.micro_batches));
  return out;
}

ScheduleSlots interleaved_schedule(const ScheduleShape& shape) {
  ScheduleSlots out;
  const int group = shape.group == 0 ? shape.ranks : shape.group;
  for (int s = 0; s < shape.ranks; ++s)
    out.push_back(interleaved(s, {shape.ranks, shape.chunks, group, shape.micro_batches}));
  return out;
}

std::string any(const ScheduleShape&) {
  return {};
}

// Megatron's rule: of a last, smaller group too, the first rank's next chunk would otherwise wait
// for what the last rank has not reached.
std::string whole_groups(const ScheduleShape& s) {
  const std::int64_t group = s.group == 0 ? s.ranks : s.group, last = s.micro_batches % group;
  if (group < s.ranks) return "groups of at least as many micro-batches as ranks";
  if (s.micro_batches < group || (last != 0 && last < s.ranks))
    return "as many micro-batches as ranks in every group";
  return {};
}

std::string two_for_each_rank(const ScheduleShape& s) {
  return s.micro_batches < 2 * s.ranks ? "twice as many micro-batches as ranks" : "";
}

std::string even(const ScheduleShape& s) {
  if (s.ranks % 2 != 0) return "an even number of ranks";
  if (s.micro_batches % 2 != 0) return "an even number of micro-batches";
  return two_for_each_rank(s);
}

constexpr std::array<NamedSchedule, 12> kSchedules{{
    {"gpipe", Placement::loop, 1, false, false, any, gpipe_schedule},
    {"1f1b", Placement::loop, 1, false, false, any, one_forward_one_backward_schedule},
    {"interleaved", Placement::loop, 0, false, false, whole_groups, interleaved_schedule},
    {"looped-bfs", Placement::loop, 0, false, false, any, looped_bfs_schedule},
    {"zb-h1", Placement::loop, 1, true, false, any, zb_h1_schedule},
    {"zb-h2", Placement::loop, 1, true, false, any, zb_h2_schedule},
    {"interleaved-zb", Placement::loop, 0, true, false, whole_groups, zb_h1_schedule},
    {"zb-v", Placement::v, 2, true, false, any, zb_v_schedule},
    {"v-half", Placement::v, 2, true, false, any, v_half_schedule},
    {"v-min", Placement::v, 2, true, false, any, v_min_schedule},
    {"dualpipe", Placement::bidirectional, 2, true, true, even, dualpipe_schedule},
    {"dualpipe-v", Placement::v, 2, true, true, two_for_each_rank, dualpipe_v_schedule},
}};

}  // namespace

std::span<const NamedSchedule> named_schedules() {
  return kSchedules;
}

const NamedSchedule* find_schedule(std::string_view name) {
  const auto found = std::find_if(kSchedules.begin(), kSchedules.end(),
                                  [&](const NamedSchedule& s) { return s.name == name; });
  return found == kSchedules.end() ? nullptr : &*found;
}

std::string refusal(const NamedSchedule& schedule, const ScheduleShape& shape) {
  std::string needs;
  if (schedule.chunks == 0 ? shape.chunks < 2 : shape.chunks != schedule.chunks) {
    needs = schedule.chunks == 0   ? "two or more chunks"
            : schedule.chunks == 1 ? "one chunk"
                                   : "two chunks";
    needs += " a rank, found " + std::to_string(shape.chunks);
  } else {
    needs = schedule.refusal(shape);
  }
  return needs.empty() ? needs : std::string(schedule.name) + " needs " + needs;
}

RankSlots one_forward_one_backward(int stage, int stages, std::int64_t micro_batches) {
  assert(stage >= 0 && stage < stages && micro_batches > 0);
  const auto m = static_cast<std::int32_t>(micro_batches);
  const std::int32_t warm = std::min(stages - 1 - stage, m);
  RankSlots slots;
  slots.reserve(2 * static_cast<std::size_t>(m));
  for (std::int32_t i = 0; i < warm; ++i) slots.push_back({SlotKind::forward, i});
  for (std::int32_t i = 0; i < m; ++i) {
    if (warm + i < m) slots.push_back({SlotKind::forward, warm + i});
    slots.push_back({SlotKind::backward, i});
  }
  return slots;
}

ScheduleSlots slots_of(const Layout& l, std::int64_t micro_batches) {
  const bool plain = l.schedule == PipelineOrder::one_forward_one_backward;
  if (plain && l.weave) {
    ScheduleSlots out;
    const int group = l.vpp_group == 0 ? l.pp : l.vpp_group;
    for (int s = 0; s < l.pp; ++s)
      out.push_back(interleaved(s, {l.pp, l.vpp, group, micro_batches, true}));
    return out;
  }
  const bool interleaves = plain && l.vpp > 1;
  const NamedSchedule* named = find_schedule(interleaves ? "interleaved" : name_of(l.schedule));
  assert(named != nullptr);
  return named->slots({l.pp, l.vpp, l.vpp_group, micro_batches});
}

}  // namespace steploom
