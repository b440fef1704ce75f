// ZB-V (arXiv 2401.10241, section 6): two chunks a rank in a V, so that the rank that starts a
// micro-batch also ends it; no bubble where F = B = W, with 1F1B's activations.
//
// Rank r of p: 2(p − r) − 1 forward passes of chunk 0; r times one of each chunk; p − r times
// F, B, W of chunk 1; then, in turn, F of chunk 0 and B, W of it, F, B, W of chunk 1; to drain, B
// of both chunks r times, then B of chunk 0 with a W of it, and the W's that are left, of chunk 1
// before chunk 0 (the order of PyTorch's ZBVZeroBubble). The pattern needs
// 2p − 1 micro-batches; fewer are the same pattern without what is not there.
#include <algorithm>

#include "planner/pipeline_schedule.h"

namespace steploom {
namespace {

class Rank {
 public:
  explicit Rank(std::int64_t micro_batches) : m_(static_cast<std::int32_t>(micro_batches)) {}

  void add(SlotKind kind, int chunk) {
    const std::int32_t i = next_[index(kind)][chunk]++;
    if (i < m_) slots_.push_back({kind, i, chunk});
  }
  void forward(int chunk) { add(SlotKind::forward, chunk); }
  void data(int chunk) { add(SlotKind::backward_data, chunk); }
  void weight(int chunk) { add(SlotKind::backward_weight, chunk); }
  std::int32_t forwards(int chunk) const { return next_[0][chunk]; }
  // A W of the chunk whose B was run.
  bool waiting_weight(int chunk) {
    const bool waits = next_[2][chunk] < next_[1][chunk];
    if (waits) weight(chunk);
    return waits;
  }
  RankSlots take() { return std::move(slots_); }

 private:
  static int index(SlotKind kind) {
    return kind == SlotKind::forward ? 0 : kind == SlotKind::backward_data ? 1 : 2;
  }
  std::int32_t m_;
  std::int32_t next_[3][2] = {};  // by kind and chunk
  RankSlots slots_;
};

RankSlots rank_slots(int r, int p, std::int64_t micro_batches) {
  const auto pattern = static_cast<std::int32_t>(std::max<std::int64_t>(micro_batches, 2 * p - 1));
  Rank rank(micro_batches);
  for (int i = 0; i < 2 * (p - r) - 1; ++i) rank.forward(0);
  for (int i = 0; i < r; ++i) {
    rank.forward(1);
    rank.forward(0);
  }
  for (int i = 0; i < p - r; ++i) {
    rank.forward(1);
    rank.data(1);
    rank.weight(1);
  }
  while (rank.forwards(1) < pattern) {
    if (rank.forwards(0) < pattern) rank.forward(0);
    rank.data(0);
    rank.weight(0);
    rank.forward(1);
    rank.data(1);
    rank.weight(1);
  }
  for (int i = 0; i < r; ++i) {
    rank.data(0);
    rank.data(1);
  }
  for (int i = 0; i < p - r; ++i) {
    rank.data(0);
    rank.weight(0);
  }
  while (rank.waiting_weight(1)) continue;
  while (rank.waiting_weight(0)) continue;
  return rank.take();
}

}  // namespace

ScheduleSlots zb_v_schedule(const ScheduleShape& shape) {
  ScheduleSlots out;
  for (int r = 0; r < shape.ranks; ++r)
    out.push_back(rank_slots(r, shape.ranks, shape.micro_batches));
  return out;
}

}  // namespace steploom
