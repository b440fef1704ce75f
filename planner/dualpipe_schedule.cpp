// DualPipe and DualPipeV (DeepSeek-V3, arXiv 2412.19437; github.com/deepseek-ai/DualPipe).
//
// A rank has two chunks and every steady slot is a forward pass of one beside a backward pass of
// the other. DualPipe sends half of the micro-batches down a pipeline and half up a copy of it;
// DualPipeV cuts that in half: the two chunks are the halves of one V. Of h ranks (DualPipe: half
// of them, each rank and its mirror image alike) rank r runs, with n micro-batches a chunk,
// "0" the chunk near its start and "1" the other one, B W the parts of a backward pass, BW whole:
//
//   1. 2(h − r − 1) times F0          5. h − r − 1 times BW1, F1 beside BW0
//   2. r + 1 times F0 F1              6. r + 1 times B1 B0, the second half of them without W
//   3. h − r − 1 times B1 W F1        7. h − r − 1 times W B0
//   4. n − 2h + r + 1 times           8. r + 1 times W
//      F0 beside BW1, F1 beside BW0
#include <cstddef>

#include "planner/pipeline_schedule.h"

namespace steploom {
namespace {

class Rank {
 public:
  // `swap`: chunk 1 is the one near its start. `first`: its chunks' first micro-batches.
  Rank(bool swap, std::int32_t first0, std::int32_t first1)
      : swap_(swap), forward_{first0, first1}, backward_{first0, first1} {}

  void forward(int phase) {
    const int c = chunk(phase);
    slots_.push_back({SlotKind::forward, forward_[c]++, c});
  }
  void backward(int phase, bool split = false) {
    const int c = chunk(phase);
    slots_.push_back({split ? SlotKind::backward_data : SlotKind::backward, backward_[c]++, c});
    if (split) waiting_.push_back(slots_.back());
  }
  void pair(int forward_phase, int backward_phase) {
    forward(forward_phase);
    slots_.back().beside_next = true;
    backward(backward_phase);
  }
  void weight() {
    SlotSpec slot = waiting_[done_++];
    slot.kind = SlotKind::backward_weight;
    slots_.push_back(slot);
  }
  RankSlots take() { return std::move(slots_); }

 private:
  int chunk(int phase) const { return swap_ ? 1 - phase : phase; }

  bool swap_;
  std::int32_t forward_[2], backward_[2];
  RankSlots slots_, waiting_;  // W's in the order of their B's
  std::size_t done_ = 0;
};

// `turn`: the rank hands a micro-batch from one of its chunks to the other or to its mirror image;
// its first pair is run one after the other, so that the neighbour starts sooner.
void run(Rank& rank, int r, int h, std::int64_t n, bool turn) {
  for (int i = 0; i < 2 * (h - r - 1); ++i) rank.forward(0);
  for (int i = 0; i < r + 1; ++i) {
    rank.forward(0);
    rank.forward(1);
  }
  for (int i = 0; i < h - r - 1; ++i) {
    rank.backward(1, true);
    rank.weight();
    rank.forward(1);
  }
  for (std::int64_t i = 0; i < n - 2 * h + r + 1; ++i) {
    if (i == 0 && turn) {
      rank.forward(0);
      rank.backward(1);
    } else {
      rank.pair(0, 1);
    }
    rank.pair(1, 0);
  }
  for (int i = 0; i < h - r - 1; ++i) {
    rank.backward(1);
    rank.pair(1, 0);
  }
  bool split = false;
  for (int i = 0; i < r + 1; ++i) {
    if (i == (r + 1) / 2 && r % 2 == 1) split = true;
    rank.backward(1, split);
    if (i == (r + 1) / 2 && r % 2 == 0) split = true;
    rank.backward(0, split);
  }
  for (int i = 0; i < h - r - 1; ++i) {
    rank.weight();
    rank.backward(0, true);
  }
  for (int i = 0; i < r + 1; ++i) rank.weight();
}

}  // namespace

ScheduleSlots dualpipe_schedule(const ScheduleShape& shape) {
  const int p = shape.ranks, half = p / 2;
  const auto n = static_cast<std::int32_t>(shape.micro_batches / 2);
  ScheduleSlots out;
  for (int rank = 0; rank < p; ++rank) {
    const int r = rank < half ? rank : p - 1 - rank;
    Rank slots(rank >= half, 0, n);
    run(slots, r, half, n, r == half - 1);
    out.push_back(slots.take());
  }
  return out;
}

ScheduleSlots dualpipe_v_schedule(const ScheduleShape& shape) {
  ScheduleSlots out;
  for (int r = 0; r < shape.ranks; ++r) {
    Rank slots(false, 0, 0);
    run(slots, r, shape.ranks, shape.micro_batches, r == shape.ranks - 1);
    out.push_back(slots.take());
  }
  return out;
}

}  // namespace steploom
