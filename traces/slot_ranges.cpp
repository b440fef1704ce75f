#include "traces/slot_ranges.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace steploom {
namespace {

// How PyTorch's pipelines call a pass ("PP:0F3"); in the order of SlotKind, but for pairs and the
// optimizer.
constexpr std::array<char, kSlotKinds - 2> kTorchAction{'F', 'B', 'I', 'W'};

}  // namespace

std::vector<SlotRange> slot_ranges(const Timeline& t) {
  constexpr Picoseconds kNone = -1;
  std::vector<SlotRange> all(t.slots.size());
  for (std::uint32_t s = 0; s < t.slots.size(); ++s) all[s] = {t.slots[s].device, s, kNone, 0};
  for (const TimelineEvent& e : t.events) {
    if (is_communication(e.kind)) continue;
    SlotRange& r = all[e.slot];
    r.start = r.start == kNone ? e.start : std::min(r.start, e.start);
    r.end = std::max(r.end, e.end);
  }
  std::vector<Picoseconds> free(t.devices.size(), 0);
  std::vector<SlotRange> out;
  for (SlotRange r : all) {
    if (r.start == kNone) continue;
    r.start = std::max(r.start, free[r.device]);
    if (r.end <= r.start) continue;
    free[r.device] = r.end;
    out.push_back(r);
  }
  return out;
}

std::string slot_name(const Timeline& t, std::uint32_t index) {
  const TimelineSlot& slot = t.slots[index];
  if (slot.kind == SlotKind::optimizer || slot.micro_batch < 0) return t.names[slot.name];
  const int stage = t.devices[slot.device].stage;
  if (slot.kind == SlotKind::pair)
    return fmt::format("PP:({}F{};{}B{})OVERLAP_F_B", stage, slot.micro_batch, stage, slot.beside);
  return fmt::format("PP:{}{}{}", stage, kTorchAction.at(static_cast<std::size_t>(slot.kind)),
                     slot.micro_batch);
}

}  // namespace steploom
