#include "planner/passes.h"

#include <algorithm>
#include <array>

#include "planner/memory_parts.h"
#include "planner/pass_exchanges_first.h"
#include "planner/pass_weight_gradients.h"
#include "planner/pipeline_schedule.h"

namespace steploom {
namespace {

constexpr std::array kPasses{
    BackwardPass{"dw", "Lancet (arXiv 2404.19429), section 4",
                 [](const Layout& l) { return l.dw != WeightPlacement::none; },
                 place_weight_gradients},
    BackwardPass{"a2a_first", "Lina (arXiv 2210.17223), section 5",
                 [](const Layout& l) { return l.a2a_first; }, put_exchanges_first},
};

}  // namespace

std::span<const BackwardPass> backward_passes() {
  return kPasses;
}

bool asks_backward_passes(const Layout& l) {
  return std::any_of(kPasses.begin(), kPasses.end(),
                     [&l](const BackwardPass& pass) { return pass.asked(l); });
}

void apply_backward_passes(Chunk& chunk, const PassContext& context) {
  for (const BackwardPass& pass : kPasses) {
    if (!pass.asked(context.layout)) continue;
    for (OpGraph* graph : {&chunk.backward, &chunk.last_backward})
      *graph = pass.rewrite(*graph, chunk.tensors, context);
  }
}

Bytes room_for_backward(const Setting& s, const Layout& l, int stage,
                        const std::vector<StageSpan>& spans, const std::vector<Chunk>& chunks) {
  std::vector<Bytes> saved;
  for (const Chunk& chunk : chunks) saved.push_back(saved_bytes(chunk));
  Bytes now = 0, most = 0;
  const ScheduleSlots slots = slots_of(l, l.micro_batches(s.work.global_batch));
  for (const SlotSpec& slot : slots[static_cast<std::size_t>(stage)]) {
    const Bytes of_chunk = saved[static_cast<std::size_t>(slot.chunk)];
    if (slot.kind == SlotKind::backward) most = std::max(most, now);
    now += slot.kind == SlotKind::forward ? of_chunk : -of_chunk;
  }
  return s.cluster.device.memory -
         fixed_memory(s, l, parameters_of(s.model, l, spans), {}).fixed() - most;
}

}  // namespace steploom
