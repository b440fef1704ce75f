// Pipeline schedules as lists of slots: what each stage does, in order.
//
// 1F1B (PipeDream-Flush; Megatron-LM, arXiv 2104.04473, section 2.2.1): stage s of p runs
// p − 1 − s forward passes, then alternates one forward and one backward, then drains. With equal
// stages the bubble is (p − 1)/(m + p − 1) of the step.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/program.h"

namespace steploom {

struct SlotSpec {
  SlotKind kind = SlotKind::forward;
  std::int32_t micro_batch = 0;
  bool operator==(const SlotSpec&) const = default;
};

// One forward and one backward slot a micro-batch; the optimizer is not among them.
std::vector<SlotSpec> one_forward_one_backward(int stage, int stages, std::int64_t micro_batches);

}  // namespace steploom
