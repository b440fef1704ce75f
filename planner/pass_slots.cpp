#include "planner/pass_slots.h"

#include <map>
#include <utility>

namespace steploom {

std::vector<PassSlot> with_passes(const RankSlots& slots, int chunks) {
  std::vector<PassSlot> out;
  out.reserve(slots.size());
  std::vector<bool> begun(static_cast<std::size_t>(chunks), false);
  std::map<std::pair<std::int32_t, SlotKind>, std::size_t> last;  // backward, by chunk and kind
  for (const SlotSpec& slot : slots) {
    const auto chunk = static_cast<std::size_t>(slot.chunk);
    if (slot.kind == SlotKind::forward) {
      out.push_back({slot, begun[chunk] ? Pass::forward : Pass::first_forward});
      begun[chunk] = true;
    } else {
      last[{slot.chunk, slot.kind}] = out.size();
      out.push_back({slot, slot.kind == SlotKind::backward_weight ? Pass::weight : Pass::backward});
    }
  }
  for (const auto& [of, at] : last)
    out[at].pass = of.second == SlotKind::backward_weight ? Pass::last_weight : Pass::last_backward;
  return out;
}

}  // namespace steploom
