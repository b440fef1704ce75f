#include "planner/pass_slots.h"

#include <algorithm>

namespace steploom {

std::vector<PassSlot> with_passes(const RankSlots& slots, int chunks, bool splits) {
  constexpr std::size_t kNone = ~std::size_t{0};
  std::vector<PassSlot> out;
  out.reserve(slots.size());
  std::vector<bool> begun(static_cast<std::size_t>(chunks), false);
  // By chunk, the slot that completes the sums of its gradients.
  std::vector<std::size_t> last(static_cast<std::size_t>(chunks), kNone);
  for (const SlotSpec& slot : slots) {
    const auto chunk = static_cast<std::size_t>(slot.chunk);
    Pass pass = Pass::backward;
    if (slot.kind == SlotKind::forward) {
      pass = begun[chunk] ? Pass::forward : Pass::first_forward;
      begun[chunk] = true;
    } else if (slot.kind == SlotKind::backward_weight) {
      pass = Pass::weight;
    } else if (slot.kind == SlotKind::backward && splits) {
      pass = Pass::whole;
    }
    if (slot.kind == SlotKind::backward || slot.kind == SlotKind::backward_weight)
      last[chunk] = out.size();
    out.push_back({slot, pass});
  }
  for (const std::size_t at : last) {
    if (at == kNone) continue;
    const PassSlot& end = out[at];
    for (PassSlot& slot : out)
      if (slot.kind != SlotKind::forward && slot.chunk == end.chunk &&
          slot.micro_batch == end.micro_batch)
        slot.pass = static_cast<Pass>(static_cast<std::size_t>(slot.pass) + 1);
  }
  return out;
}

}  // namespace steploom
