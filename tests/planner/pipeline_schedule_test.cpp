#include "planner/pipeline_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace steploom {
namespace {

// PipeDream-Flush on three stages, four micro-batches: stage 0 warms up with two forward passes,
// stage 2 alternates from the start.
TEST(OneForwardOneBackward, ThreeStagesFourMicroBatches) {
  const auto text = [](int stage) {
    std::string out;
    for (const SlotSpec& s : one_forward_one_backward(stage, 3, 4))
      out += (s.kind == SlotKind::forward ? "F" : "B") + std::to_string(s.micro_batch) + " ";
    return out;
  };
  EXPECT_EQ(text(0), "F0 F1 F2 B0 F3 B1 B2 B3 ");
  EXPECT_EQ(text(1), "F0 F1 B0 F2 B1 F3 B2 B3 ");
  EXPECT_EQ(text(2), "F0 B0 F1 B1 F2 B2 F3 B3 ");
}

// Every micro-batch passes once forward and once backward, in order, and never more than
// min(p − s, m) of them are in flight.
TEST(OneForwardOneBackward, KeepsOrderAndLimit) {
  for (const int stages : {1, 2, 4, 7})
    for (const int m : {1, 2, 3, 8, 20})
      for (int stage = 0; stage < stages; ++stage) {
        int forward = 0, backward = 0, most = 0;
        for (const SlotSpec& s : one_forward_one_backward(stage, stages, m)) {
          if (s.kind == SlotKind::forward)
            EXPECT_EQ(s.micro_batch, forward++);
          else
            EXPECT_EQ(s.micro_batch, backward++);
          EXPECT_LE(backward, forward);
          most = std::max(most, forward - backward);
        }
        EXPECT_EQ(forward, m);
        EXPECT_EQ(backward, m);
        EXPECT_EQ(most, std::min(stages - stage, m));
      }
}

}  // namespace
}  // namespace steploom
