#include "sim/steady_state.h"

#include <algorithm>
#include <numeric>

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
    return {{first, last + period, period, reach(p, first, first + period)}, micro_batches};
  }
  return {};
}

// Operators that a device issues on each of its communicators in a period of its slots.
void count(const FlatProgram& flat, const Device& device, const SteadySlots& slots,
           std::vector<std::uint32_t>& by_communicator) {
  const Program& p = flat.program;
  for (std::uint32_t s = slots.first; s < slots.first + slots.period; ++s)
    for (const OpTemplate& op : p.blocks[p.slots[s].block].ops)
      if (op.role != kNoRole) ++by_communicator[device.communicator_of_role[op.role]];
}

}  // namespace

SteadyState find_steady_state(const FlatProgram& flat) {
  const Program& p = flat.program;
  std::vector<Repeats> found;
  std::int64_t together = 1;
  for (const Device& device : p.devices) {
    found.push_back(repeats_of(p, device));
    if (found.back().slots.period == 0) return {};
    together = std::lcm(together, std::int64_t{found.back().micro_batches});
    if (together > kMostMicroBatches) return {};
  }
  SteadyState steady;
  steady.rendezvous.assign(p.communicators.size(), kNoOp);
  std::vector<std::uint32_t> counted(p.communicators.size());
  for (std::size_t d = 0; d < p.devices.size(); ++d) {
    SteadySlots slots = found[d].slots;
    slots.period *= static_cast<std::uint32_t>(together / found[d].micro_batches);
    if (slots.last - slots.first < kFewestPeriods * slots.period) return {};
    steady.devices.push_back(slots);
    std::fill(counted.begin(), counted.end(), 0);
    count(flat, p.devices[d], slots, counted);
    for (const std::uint32_t c : p.devices[d].communicator_of_role) {
      if (c == kNoCommunicator) continue;
      std::uint32_t& all = steady.rendezvous[c];
      if (all != kNoOp && all != counted[c]) return {};
      all = counted[c];
    }
  }
  return steady;
}

}  // namespace steploom
