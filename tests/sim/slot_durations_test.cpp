// Slots of one template with durations of their own.
#include <gtest/gtest.h>

#include "models/error.h"
#include "sim/contention.h"
#include "sim/engine.h"
#include "sim/program_text.h"
#include "sim/relax.h"

namespace steploom {
namespace {

// Two devices, each a kernel and then an exchange of 5 with the other; twice.
Program two_slots() {
  Program p = parse_program(R"(
    device a
    device b
    comm ep a b
    op experts on a compute 10ps
    op combine on a ep 5ps comm=ep after=experts
    op experts on b compute 10ps
    op combine on b ep 5ps comm=ep after=experts
  )",
                            "two slots")
                  .program;
  p.slots = {{0, 0}, {0, 1}, {1, 0}, {1, 1}};
  p.devices[0].slot_count = p.devices[1].slot_count = 2;
  p.devices[1].first_slot = 2;
  for (BlockTemplate& block : p.blocks) {
    block.ops[0].varies = 0;
    block.ops[1].varies = 1;
  }
  finalize(p);
  return p;
}

void expect_step(const Program& p, Picoseconds step) {
  const Contention none = neutral_contention(p.kernel_classes.size() + 1);
  EXPECT_EQ(replay(p).makespan, step);
  EXPECT_EQ(replay(p, {&none}).makespan, step);
  EXPECT_EQ(relax(p).makespan, step);
  EXPECT_EQ(relaxed_makespan(p), step);
}

// Without durations of their own, slots take the template's: experts of the second micro-batch run
// beside the first exchange, 10 + 10 + 5. With them a takes 10 and 3, b 2 and 30: the first
// exchange takes the longer of 7 and 4 and ends at 17, the second starts when b's experts end,
// at 32.
TEST(SlotDurations, ReplaceTheTemplates) {
  Program p = two_slots();
  expect_step(p, 25);
  p.durations = {10, 7, 3, 6, 2, 4, 30, 6};
  for (std::uint32_t s = 0; s < 4; ++s) p.slots[s].durations = 2 * s;
  finalize(p);
  expect_step(p, 38);
  EXPECT_EQ(replay(p).end[p.slots[0].first_op + 1], 17);
  // An operator that does not vary keeps the template's: the exchanges take 5 each.
  for (BlockTemplate& block : p.blocks) block.ops[1].varies = kOneDuration;
  p.durations = {10, 3, 2, 30};
  for (std::uint32_t s = 0; s < 4; ++s) p.slots[s].durations = s;
  finalize(p);
  expect_step(p, 37);
}

TEST(SlotDurations, AreValidated) {
  Program p = two_slots();
  p.durations = {10, 7, 3};
  p.slots[3].durations = 2;
  EXPECT_THROW(finalize(p), Error);
  p.slots[3].durations = 1;
  EXPECT_NO_THROW(finalize(p));
  p.durations[2] = -1;
  EXPECT_THROW(finalize(p), Error);
}

}  // namespace
}  // namespace steploom
