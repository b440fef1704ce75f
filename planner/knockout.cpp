#include "planner/knockout.h"

#include <algorithm>
#include <cstdint>
#include <set>

namespace steploom {
namespace {

bool is_pipeline(CommGroup g) {
  return g == CommGroup::pp_forward_in || g == CommGroup::pp_forward_out ||
         g == CommGroup::pp_backward_in || g == CommGroup::pp_backward_out;
}

// A copy in which `change` has edited every template operator.
template <class Change>
Program edited(const Program& program, const Change& change) {
  Program copy = program;
  for (BlockTemplate& block : copy.blocks)
    for (std::size_t i = 0; i < block.ops.size(); ++i) change(block.ops[i], block.infos[i]);
  return copy;
}

// What is made free takes its own wait for an event with it, and that of what waits for it alone.
template <class Which>
Picoseconds without(const Program& program, const ReplayOptions& options, const Which& which) {
  Program copy = program;
  for (BlockTemplate& block : copy.blocks) {
    std::vector<bool> free(block.ops.size());
    for (std::size_t i = 0; i < free.size(); ++i) {
      const OpInfo& info = block.infos[i];
      OpTemplate& op = block.ops[i];
      const auto deps = block.deps.begin() + op.first_dep;
      free[i] = is_communication(info.work.kind) && which(info);
      if (free[i]) {
        op.duration = op.launch = 0;
        op.varies = kOneDuration;
      }
      if (free[i] || (op.deps > 0 &&
                      std::all_of(deps, deps + op.deps, [&](std::uint32_t d) { return free[d]; })))
        op.event_latency = 0;
    }
  }
  return makespan(copy, options);
}

// Kernel time on each device's slots.
std::vector<Picoseconds> loads(const Program& program) {
  std::vector<Picoseconds> block_load;
  for (const BlockTemplate& b : program.blocks) {
    Picoseconds sum = 0;
    for (const OpTemplate& op : b.ops)
      if (op.role == kNoRole) sum += op.duration;
    block_load.push_back(sum);
  }
  std::vector<Picoseconds> out;
  for (const Device& d : program.devices) {
    Picoseconds sum = 0;
    for (std::uint32_t s = 0; s < d.slot_count; ++s)
      sum += block_load[program.slots[d.first_slot + s].block];
    out.push_back(sum);
  }
  return out;
}

}  // namespace

std::string name_of(const GroupCollective& c) {
  if (is_pipeline(c.group)) return "pp " + std::string(name_of(c.kind));
  return std::string(name_of(c.group)) + " " + std::string(name_of(c.kind));
}

bool belongs(const OpInfo& info, const GroupCollective& c) {
  if (info.work.kind != c.kind) return false;
  return is_pipeline(c.group) ? is_pipeline(info.group) : info.group == c.group;
}

std::vector<GroupCollective> collectives_in(const Program& program) {
  std::set<GroupCollective> found;
  for (const BlockTemplate& b : program.blocks)
    for (const OpInfo& info : b.infos)
      if (is_communication(info.work.kind))
        found.insert(
            {is_pipeline(info.group) ? CommGroup::pp_forward_out : info.group, info.work.kind});
  return {found.begin(), found.end()};
}

Picoseconds step_without(const Program& program, const GroupCollective& c,
                         const ReplayOptions& options) {
  return without(program, options, [&](const OpInfo& info) { return belongs(info, c); });
}

Picoseconds step_without_communication(const Program& program, const ReplayOptions& options) {
  return without(program, options, [](const OpInfo&) { return true; });
}

Picoseconds step_without_bubble(const Program& program, const ReplayOptions& options) {
  Program copy = edited(program, [](OpTemplate& op, const OpInfo& info) {
    if (!is_pipeline(info.group)) return;
    op.role = kNoRole;  // nobody waits for a neighbour
    op.eager = false;
    op.duration = 0;
    op.event_latency = 0;
    op.sms_wanted = 0;
    op.sms_least = 0;
  });
  finalize(copy);  // other collectives have other ordinals now
  return makespan(copy, options);
}

Picoseconds step_without_optimizer(const Program& program, const ReplayOptions& options) {
  return makespan(edited(program,
                         [](OpTemplate& op, const OpInfo& info) {
                           if (class_of(info.work.kind) != OpClass::optimizer) return;
                           op.duration = 0;
                           op.stream_gap = op.event_latency = 0;
                         }),
                  options);
}

Picoseconds step_without_contention(const Program& program) {
  return makespan(program, {});
}

Picoseconds step_without_host(const Program& program, const ReplayOptions& options) {
  return makespan(edited(program,
                         [](OpTemplate& op, const OpInfo&) {
                           op.launch = 0;
                           op.host_waits = false;
                         }),
                  options);
}

Picoseconds step_without_imbalance(const Program& program, const ReplayOptions& options) {
  const std::vector<Picoseconds> load = loads(program);
  double total = 0, ranks = 0;
  for (std::size_t d = 0; d < load.size(); ++d) {
    total += static_cast<double>(load[d]) * program.devices[d].multiplicity;
    ranks += program.devices[d].multiplicity;
  }
  const double mean = total / ranks;
  Program copy = program;
  for (Slot& slot : copy.slots)
    slot.durations = kTemplateDurations, slot.shares = kEvenShares;  // experts that share evenly
  std::vector<bool> scaled(copy.blocks.size(), false);
  for (std::size_t d = 0; d < load.size(); ++d) {
    const double factor = load[d] > 0 ? mean / static_cast<double>(load[d]) : 1;
    const Device& device = copy.devices[d];
    for (std::uint32_t s = 0; s < device.slot_count; ++s) {
      const std::uint32_t block = copy.slots[device.first_slot + s].block;
      if (scaled[block]) continue;
      scaled[block] = true;
      for (OpTemplate& op : copy.blocks[block].ops)
        if (op.role == kNoRole)
          op.duration = static_cast<Picoseconds>(static_cast<double>(op.duration) * factor);
    }
  }
  return makespan(copy, options);
}

}  // namespace steploom
