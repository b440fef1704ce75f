// What if one thing were free? Exact replays of a Program with one cost taken out.
//
// Exposed communication is defined by replay: the time saved if that communication were free. The
// same is asked of the pipeline bubble (every stage runs its slots without waiting for another),
// of contention, of the host, and of imbalance between stages (every stage's kernels are scaled to
// the mean stage). Times saved do not add up: two things can hide behind each other.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sim/engine.h"
#include "sim/program.h"

namespace steploom {

// A communication: the collective of one group, "ep all_to_all".
struct GroupCollective {
  CommGroup group = CommGroup::none;  // a pipeline message counts as pp_forward_out
  OpKind kind = OpKind::all_reduce;
  auto operator<=>(const GroupCollective&) const = default;
};
std::string name_of(const GroupCollective& c);
bool belongs(const OpInfo& info, const GroupCollective& c);
std::vector<GroupCollective> collectives_in(const Program& program);  // sorted

// The step's time without it.
Picoseconds step_without(const Program& program, const GroupCollective& c,
                         const ReplayOptions& options);
Picoseconds step_without_communication(const Program& program, const ReplayOptions& options);
Picoseconds step_without_bubble(const Program& program, const ReplayOptions& options);
Picoseconds step_without_optimizer(const Program& program, const ReplayOptions& options);
Picoseconds step_without_contention(const Program& program);
Picoseconds step_without_host(const Program& program, const ReplayOptions& options);
Picoseconds step_without_imbalance(const Program& program, const ReplayOptions& options);

}  // namespace steploom
