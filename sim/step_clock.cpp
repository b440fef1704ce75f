#include "sim/step_clock.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "sim/clock_law.h"
#include "sim/relax.h"

namespace steploom {
namespace {

constexpr Picoseconds kForever = std::numeric_limits<Picoseconds>::max();
constexpr int kMostTries = 24;

ClockDemand demand_of(const BlockTemplate& block) {
  ClockDemand d;
  for (const OpTemplate& op : block.ops) {
    const double energy = op.microjoules;
    if (op.mhz > 0)
      d.by[op.mhz] += energy;
    else
      (op.role == kNoRole ? d.moving : d.fixed) += energy;
  }
  return d;
}

// What a slot's own durations draw beyond those of its template: in proportion.
ClockDemand beyond_template(const Program& program, const Slot& slot) {
  ClockDemand d;
  if (slot.durations == kTemplateDurations) return d;
  for (const OpTemplate& op : program.blocks[slot.block].ops) {
    if (op.varies == kOneDuration || op.duration == 0) continue;
    const double own = static_cast<double>(program.durations[slot.durations + op.varies]);
    const double more = op.microjoules * (own / static_cast<double>(op.duration) - 1);
    if (op.mhz > 0)
      d.by[op.mhz] += more;
    else
      (op.role == kNoRole ? d.moving : d.fixed) += more;
  }
  return d;
}

std::uint32_t root_of(std::vector<std::uint32_t>& parent, std::uint32_t i) {
  while (parent[i] != i) i = parent[i] = parent[parent[i]];
  return i;
}

}  // namespace

ClockedProgram::ClockedProgram(Program& program) : program_(program) {
  if (!clocks_unknown(program)) return;
  std::vector<ClockDemand> of_block;
  for (const BlockTemplate& b : program.blocks) {
    of_block.push_back(demand_of(b));
    durations_.emplace_back();
    waves_.emplace_back();
    for (const OpTemplate& op : b.ops) {
      durations_.back().push_back(op.duration);
      waves_.back().push_back(op.wave);
    }
  }
  of_slots_ = program.durations;
  std::vector<std::uint32_t> parent(program.blocks.size());  // blocks joined by what shares a clock
  std::iota(parent.begin(), parent.end(), 0U);
  std::map<std::uint32_t, std::uint32_t> block_of;  // by where durations of slots begin
  for (const Slot& slot : program.slots) {
    if (slot.durations == kTemplateDurations) continue;
    const auto [at, added] = block_of.try_emplace(slot.durations, slot.block);
    if (!added) parent[root_of(parent, slot.block)] = root_of(parent, at->second);
  }
  std::vector<std::map<std::uint32_t, int>> slots_of(program.devices.size());  // by block
  for (std::size_t d = 0; d < program.devices.size(); ++d) {
    const Device& device = program.devices[d];
    for (std::uint32_t s = 0; s < device.slot_count; ++s)
      ++slots_of[d][program.slots[device.first_slot + s].block];
    for (const auto& [block, count] : slots_of[d])
      parent[root_of(parent, block)] = root_of(parent, slots_of[d].begin()->first);
  }
  std::map<std::uint32_t, std::size_t> group_of;  // by root
  for (std::uint32_t d = 0; d < program.devices.size(); ++d) {
    const ClockLaw& law = clock_of(program, program.devices[d]);
    if (slots_of[d].empty() || !law.known()) continue;
    const std::uint32_t root = root_of(parent, slots_of[d].begin()->first);
    const auto [at, added] = group_of.try_emplace(root, groups_.size());
    if (added) groups_.emplace_back();
    Group& group = groups_[at->second];
    group.law = law;
    group.devices.push_back(d);
    ClockDemand sum;
    for (const auto& [block, count] : slots_of[d]) sum.add(of_block[block], count);
    for (std::uint32_t s = 0; s < program.devices[d].slot_count; ++s)
      sum.add(beyond_template(program, program.slots[program.devices[d].first_slot + s]));
    group.demands.push_back(std::move(sum));
  }
  for (std::uint32_t b = 0; b < program.blocks.size(); ++b)
    if (const auto at = group_of.find(root_of(parent, b)); at != group_of.end())
      groups_[at->second].blocks.push_back(b);
}

std::vector<int> ClockedProgram::clocks_for(Picoseconds step) const {
  std::vector<int> clocks;
  for (const Group& g : groups_) {
    int mhz = g.law.most_mhz;
    if (step != kForever)
      for (const ClockDemand& d : g.demands) mhz = std::min(mhz, d.highest(g.law, step));
    clocks.push_back(mhz);
  }
  return clocks;
}

void ClockedProgram::set(const std::vector<int>& clocks) {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    Group& g = groups_[i];
    if (g.mhz == clocks[i]) continue;
    g.mhz = clocks[i];
    for (const std::uint32_t d : g.devices) {
      Device& device = program_.devices[d];
      device.mhz = static_cast<std::uint16_t>(g.mhz);
      if (of_slots_.empty()) continue;
      for (std::uint32_t s = 0; s < device.slot_count; ++s) {
        const Slot& slot = program_.slots[device.first_slot + s];
        if (slot.durations == kTemplateDurations) continue;
        for (const OpTemplate& op : program_.blocks[slot.block].ops)
          if (op.varies != kOneDuration)
            program_.durations[slot.durations + op.varies] =
                time_at(g.law, of_slots_[slot.durations + op.varies], op.mhz, g.mhz);
      }
    }
    for (const std::uint32_t b : g.blocks)
      for (std::size_t k = 0; k < durations_[b].size(); ++k) {
        OpTemplate& op = program_.blocks[b].ops[k];
        op.duration = time_at(g.law, durations_[b][k], op.mhz, g.mhz);
        op.wave = time_at(g.law, waves_[b][k], op.mhz, g.mhz);
      }
  }
}

bool ClockedProgram::may_beat(Picoseconds step, bool links_shared) {
  set(clocks_for(step));
  return relaxed_makespan(program_, links_shared) < step;
}

// From a T that is not beyond its makespan to the one that is sought, at whose clocks the Program
// is left. Between one T that is not beyond its makespan and one that is, both are taken for
// straight lines; before there are two, the makespan is taken to fall by 0.6 % when T grows by 1 %.
// Where a makespan's own clocks are those that it was found at, it is the one.
template <class Makespan>
Picoseconds ClockedProgram::settle(Picoseconds from, const Makespan& makespan) {
  Picoseconds within = from, beyond = kForever, t = from;
  double below = 0, above = 0;  // makespan less T of the one, T less makespan of the other
  for (int i = 0; i < kMostTries; ++i) {
    const std::vector<int> clocks = clocks_for(t);
    set(clocks);
    const Picoseconds found = makespan(t), tolerance = t / kClockTolerance;
    if (found >= t) {
      if (clocks_for(found) == clocks) return found;
      if (found - t <= tolerance) return t;
      within = t;
      below = static_cast<double>(found - t);
    } else {
      beyond = t;
      above = static_cast<double>(t - found);
    }
    if (beyond == kForever) {
      t = within + static_cast<Picoseconds>(below / 1.6);
    } else {
      if (beyond - within <= tolerance) break;
      t = within +
          static_cast<Picoseconds>(static_cast<double>(beyond - within) * below / (below + above));
    }
    t = std::max(t - tolerance / 2, within + 1);
  }
  set(clocks_for(within));
  return within;
}

Picoseconds ClockedProgram::relaxed() {
  if (groups_.empty()) return relaxed_makespan(program_);
  set(clocks_for(kForever));
  const auto makespan = [&](Picoseconds) { return relaxed_makespan(program_); };
  return settle(makespan(0), makespan);
}

Picoseconds ClockedProgram::makespan(const ReplayOptions& options) {
  if (groups_.empty()) return steploom::makespan(program_, options);
  Picoseconds found = 0;
  settle(relaxed(), [&](Picoseconds t) {
    const Picoseconds step = steploom::makespan(program_, options);
    if (step >= t) found = step;
    return step;
  });
  program_.clock = {};
  program_.clock_of_type.clear();
  groups_.clear();
  return found;
}

Replay ClockedProgram::replay(const ReplayOptions& options) {
  if (!groups_.empty()) makespan(options);
  return steploom::replay(program_, options);
}

}  // namespace steploom
