// Pipeline schedules as lists of slots: what each stage does, in order.
//
// 1F1B (PipeDream-Flush; Megatron-LM, arXiv 2104.04473, section 2.2.1): stage s of p runs
// p − 1 − s forward passes, then alternates one forward and one backward, then drains. With equal
// stages the bubble is (p − 1)/(m + p − 1) of the step.
//
// Interleaved 1F1B (the same paper, section 2.2.2; interleaved_schedule.cpp): every rank holds v
// model chunks, so stages are v times as short and so is the bubble, (p − 1)/(v·m) of the time
// without it. A schedule is a function from a rank's place to its slots, in a file of its own, and
// a case of slots_of.
#pragma once

#include <cstdint>
#include <vector>

#include "models/layout.h"
#include "sim/program.h"

namespace steploom {

struct SlotSpec {
  SlotKind kind = SlotKind::forward;
  std::int32_t micro_batch = 0;
  std::int32_t chunk = 0;  // of the rank's model chunks
  bool operator==(const SlotSpec&) const = default;
};

// One forward and one backward slot a micro-batch and chunk; the optimizer is not among them.
std::vector<SlotSpec> one_forward_one_backward(int stage, int stages, std::int64_t micro_batches);

// As Megatron-Core 0.20 orders it (schedules.py, get_schedule_table and get_pp_rank_microbatches):
// `group` micro-batches in turn on each chunk, chunks ascending forward and descending backward;
// stage s of p warms up with 2·(p − 1 − s) + (v − 1)·group forward passes. A last group may be
// smaller.
struct Interleaving {
  int stages = 2;
  int chunks = 2;
  int group = 2;  // at least `stages`
  std::int64_t micro_batches = 2;
};
std::vector<SlotSpec> interleaved(int stage, const Interleaving& shape);

// What the layout asks for.
std::vector<SlotSpec> slots_of(const Layout& layout, int stage, std::int64_t micro_batches);

}  // namespace steploom
