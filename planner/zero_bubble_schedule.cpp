// Zero bubble on stages in line (arXiv 2401.10241): 1F1B whose weight gradients wait.
//
// H1 keeps 1F1B's activations, p micro-batches on every rank: rank s holds back the W of s
// micro-batches, as much as it starts later than the first one. With several chunks it is what
// PyTorch calls InterleavedZeroBubble. H2 fills the bubble before the first B with further forward
// passes, 2(p − s) − 1 in all, and holds back 2s W's: 2p − 1 micro-batches on every rank.
#include <algorithm>

#include "planner/pipeline_schedule.h"

namespace steploom {
namespace {

// Alternates one forward pass (while there are any left) and one B after `warm` forward passes;
// every B but the first `held` is followed by the oldest W.
RankSlots with_weights_held(const RankSlots& forward, const RankSlots& data, std::size_t warm,
                            std::size_t held, bool forward_first) {
  RankSlots out;
  out.reserve(forward.size() + 2 * data.size());
  std::size_t f = std::min(warm, forward.size()), w = 0;
  out.insert(out.end(), forward.begin(), forward.begin() + static_cast<std::ptrdiff_t>(f));
  const auto weight = [&] {
    SlotSpec slot = data[w++];
    slot.kind = SlotKind::backward_weight;
    out.push_back(slot);
  };
  for (std::size_t b = 0; b < data.size(); ++b) {
    if (forward_first && f < forward.size()) out.push_back(forward[f++]);
    out.push_back(data[b]);
    if (b >= held) weight();
    if (!forward_first && f < forward.size()) out.push_back(forward[f++]);
  }
  while (w < data.size()) weight();
  return out;
}

}  // namespace

ScheduleSlots zb_h1_schedule(const ScheduleShape& shape) {
  const int p = shape.ranks, v = shape.chunks;
  const int group = shape.group == 0 ? p : shape.group;
  ScheduleSlots out;
  for (int s = 0; s < p; ++s) {
    RankSlots forward, data;
    for (SlotSpec slot : v == 1 ? one_forward_one_backward(s, p, shape.micro_batches)
                                : interleaved(s, {p, v, group, shape.micro_batches})) {
      if (slot.kind == SlotKind::forward) {
        forward.push_back(slot);
      } else {
        slot.kind = SlotKind::backward_data;
        data.push_back(slot);
      }
    }
    out.push_back(with_weights_held(forward, data,
                                    static_cast<std::size_t>((v - 1) * group + p - 1 - s),
                                    static_cast<std::size_t>(s), true));
  }
  return out;
}

ScheduleSlots zb_h2_schedule(const ScheduleShape& shape) {
  ScheduleSlots out;
  for (int s = 0; s < shape.ranks; ++s) {
    RankSlots forward, data;
    for (std::int32_t i = 0; i < shape.micro_batches; ++i) {
      forward.push_back({SlotKind::forward, i});
      data.push_back({SlotKind::backward_data, i});
    }
    out.push_back(with_weights_held(forward, data,
                                    static_cast<std::size_t>(2 * (shape.ranks - s) - 1),
                                    static_cast<std::size_t>(2 * s), false));
  }
  return out;
}

}  // namespace steploom
