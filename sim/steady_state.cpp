#include "sim/steady_state.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

namespace steploom {
namespace {

constexpr std::uint32_t kLongestPeriod = 4096;    // slots
constexpr std::uint32_t kLeastShare = 4;          // of a device's slots, what recurs
constexpr std::uint32_t kFewestPeriods = 4;       // where fewer recur, nothing is gained
constexpr std::int32_t kMostMicroBatches = 4096;  // of a period of all devices

struct Repeats {
  SteadySlots slots;
  std::int32_t micro_batches = 0;  // of a period
};

// Do operators whose duration is their slot's own take as long in both slots of one block?
bool as_long(const Program& p, const Slot& a, const Slot& b) {
  if (a.durations == b.durations) return true;
  const std::vector<OpTemplate>& ops = p.blocks[a.block].ops;
  return std::all_of(ops.begin(), ops.end(), [&](const OpTemplate& op) {
    return op.varies == kOneDuration || duration_in(p, a, op) == duration_in(p, b, op);
  });
}

bool alike(const Program& p, std::uint32_t slot, std::uint32_t period, std::int32_t micro_batches) {
  const Slot& a = p.slots[slot];
  const Slot& b = p.slots[slot + period];
  return a.block == b.block && b.micro_batch - a.micro_batch == micro_batches &&
         (a.kind != SlotKind::pair || b.beside - a.beside == micro_batches) && as_long(p, a, b);
}

bool edges_alike(const Program& p, std::uint32_t slot, std::uint32_t period) {
  const std::vector<std::uint32_t>& first = p.edges_into_slot.first;
  const std::uint32_t a = first[slot], b = first[slot + period];
  if (first[slot + 1] - a != first[slot + period + 1] - b) return false;
  for (std::uint32_t i = 0; i < first[slot + 1] - a; ++i) {
    const SlotEdge& x = p.edges[a + i];
    const SlotEdge& y = p.edges[b + i];
    if (x.from_slot + period != y.from_slot || x.from_op != y.from_op || x.to_op != y.to_op)
      return false;
  }
  return true;
}

std::uint32_t reach(const Program& p, std::uint32_t first, std::uint32_t last) {
  std::uint32_t farthest = 0;
  for (std::uint32_t e = p.edges_into_slot.first[first]; e < p.edges_into_slot.first[last]; ++e)
    farthest = std::max(farthest, p.edges[e].to_slot - p.edges[e].from_slot);
  return farthest;
}

// The repetition around the middle of a device's list; a period of 0 if there is none.
Repeats repeats_of(const Program& p, const Device& device) {
  const std::uint32_t begin = device.first_slot, end = begin + device.slot_count;
  const std::uint32_t middle = begin + device.slot_count / 2;
  const std::uint32_t longest = std::min(device.slot_count / kFewestPeriods, kLongestPeriod);
  for (std::uint32_t period = 1; period <= longest; ++period) {
    const std::int32_t micro_batches =
        p.slots[middle].micro_batch - p.slots[middle - period].micro_batch;
    if (micro_batches <= 0) continue;
    bool here = true;
    for (std::uint32_t s = middle - period; here && s < middle; ++s)
      here = alike(p, s, period, micro_batches);
    if (!here) continue;
    const auto both = [&](std::uint32_t s) {
      return alike(p, s, period, micro_batches) && edges_alike(p, s, period);
    };
    std::uint32_t first = middle, last = middle;
    while (first > begin && both(first - 1)) --first;
    while (last + period < end && both(last)) ++last;
    // Interleaved pipelines repeat every two slots within a group, and every group.
    if (last + period - first < device.slot_count / kLeastShare) continue;
    return {{0, first, last + period, period, reach(p, first, first + period)}, micro_batches};
  }
  return {};
}

// Operators that a device issues on each of its communicators in a period of its slots.
std::map<std::uint32_t, std::uint32_t> issued_in(const FlatProgram& flat, const SteadySlots& of,
                                                 std::uint32_t period) {
  const Program& p = flat.program;
  std::map<std::uint32_t, std::uint32_t> by_communicator;
  for (std::uint32_t s = of.first; s < of.first + period; ++s)
    for (const OpTemplate& op : p.blocks[p.slots[s].block].ops)
      if (op.role != kNoRole) ++by_communicator[p.devices[of.device].communicator_of_role[op.role]];
  return by_communicator;
}

// By device the number of its group. Together are members of a communicator that is used while a
// device repeats (an eager message may be under way at any time), and of communicators that draw
// on one link then. One that is used at other times draws nothing as long as a member repeats.
std::vector<std::uint32_t> group_devices(const FlatProgram& flat, const std::vector<Repeats>& found,
                                         std::uint32_t& groups) {
  const Program& p = flat.program;
  enum : std::uint8_t { kNever, kOnce, kSteadily };
  std::vector<std::uint8_t> used(p.communicators.size(), kNever);
  std::vector<std::size_t> seen_on(p.blocks.size(), p.devices.size());
  for (std::size_t d = 0; d < p.devices.size(); ++d) {
    const Device& device = p.devices[d];
    for (std::uint32_t s = device.first_slot; s < device.first_slot + device.slot_count; ++s) {
      const std::uint32_t block = p.slots[s].block;
      if (std::exchange(seen_on[block], d) == d) continue;
      for (const OpTemplate& op : p.blocks[block].ops) {
        if (op.role == kNoRole) continue;
        std::uint8_t& use = used[device.communicator_of_role[op.role]];
        use = std::max<std::uint8_t>(use, op.eager ? kSteadily : kOnce);
      }
    }
    if (found[d].slots.period == 0) continue;
    for (const auto& [c, count] : issued_in(flat, found[d].slots, found[d].slots.period))
      used[c] = kSteadily;
  }
  std::vector<std::uint32_t> parent(p.devices.size());
  std::iota(parent.begin(), parent.end(), 0U);
  const auto root = [&parent](std::uint32_t d) {
    while (parent[d] != d) d = parent[d] = parent[parent[d]];
    return d;
  };
  std::vector<std::uint32_t> on_link(p.links, kNoOp);  // a device of those that draw on it steadily
  for (std::size_t c = 0; c < used.size(); ++c) {
    const Communicator& communicator = p.communicators[c];
    if (used[c] != kSteadily || communicator.members.empty()) continue;
    const std::uint32_t first = communicator.members.front();
    for (const std::uint32_t d : communicator.members) parent[root(d)] = root(first);
    for (const LinkUse& use : communicator.uses) {
      if (on_link[use.link] != kNoOp) parent[root(on_link[use.link])] = root(first);
      on_link[use.link] = first;
    }
  }
  for (std::size_t c = 0; c < used.size(); ++c) {
    if (used[c] != kOnce) continue;
    const std::vector<std::uint32_t>& members = p.communicators[c].members;
    for (const LinkUse& use : p.communicators[c].uses) {
      if (on_link[use.link] == kNoOp) continue;
      const std::uint32_t there = root(on_link[use.link]);
      if (std::none_of(members.begin(), members.end(),
                       [&](std::uint32_t d) { return root(d) == there; }))
        for (const std::uint32_t d : members) parent[root(d)] = root(on_link[use.link]);
    }
  }
  std::vector<std::uint32_t> number(p.devices.size(), kNoOp), group;
  groups = 0;
  for (std::uint32_t d = 0; d < p.devices.size(); ++d) {
    std::uint32_t& n = number[root(d)];
    if (n == kNoOp) n = groups++;
    group.push_back(n);
  }
  return group;
}

// One group's; without devices unless all repeat together.
SteadyState together(const FlatProgram& flat, const std::vector<std::uint32_t>& devices,
                     const std::vector<Repeats>& found) {
  std::int64_t micro_batches = 1;
  for (const std::uint32_t d : devices) {
    if (found[d].slots.period == 0) return {};
    micro_batches = std::lcm(micro_batches, std::int64_t{found[d].micro_batches});
    if (micro_batches > kMostMicroBatches) return {};
  }
  SteadyState steady;
  std::map<std::uint32_t, std::uint32_t> issued, members;  // by communicator
  for (const std::uint32_t d : devices) {
    SteadySlots slots = found[d].slots;
    slots.period *= static_cast<std::uint32_t>(micro_batches / found[d].micro_batches);
    if (slots.last - slots.first < kFewestPeriods * slots.period) return {};
    steady.devices.push_back(slots);
    for (const auto& [c, operators] : issued_in(flat, slots, slots.period)) {
      if (issued.try_emplace(c, operators).first->second != operators) return {};
      ++members[c];
    }
  }
  for (const auto& [c, operators] : issued) {
    if (members[c] != flat.program.communicators[c].members.size()) return {};
    steady.issued.push_back({c, operators});
  }
  return steady;
}

}  // namespace

std::vector<SteadyState> find_steady_states(const FlatProgram& flat) {
  const Program& p = flat.program;
  std::vector<Repeats> found;
  for (std::uint32_t d = 0; d < p.devices.size(); ++d) {
    found.push_back(repeats_of(p, p.devices[d]));
    found.back().slots.device = d;
  }
  std::uint32_t groups = 0;
  const std::vector<std::uint32_t> group = group_devices(flat, found, groups);
  std::vector<std::vector<std::uint32_t>> devices(groups);
  for (std::uint32_t d = 0; d < p.devices.size(); ++d) devices[group[d]].push_back(d);
  std::vector<SteadyState> out;
  for (const std::vector<std::uint32_t>& of : devices) {
    SteadyState steady = together(flat, of, found);
    if (!steady.devices.empty()) out.push_back(std::move(steady));
  }
  return out;
}

}  // namespace steploom
