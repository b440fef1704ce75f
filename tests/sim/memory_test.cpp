#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/error.h"
#include "sim/engine.h"
#include "sim/program_text.h"
#include "tests/sim/pipeline_programs.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;

Replay with_samples(const Program& program) {
  ReplayOptions options;
  options.record_memory = true;
  return replay(program, options);
}

// (microsecond, bytes) of a device.
std::vector<std::pair<Picoseconds, Bytes>> samples(const Replay& r, std::uint32_t device) {
  std::vector<std::pair<Picoseconds, Bytes>> out;
  for (const MemorySample& s : r.memory)
    if (s.device == device) out.emplace_back(s.time / 1'000'000, s.bytes);
  return out;
}

// An operator takes its memory when it starts and gives back when it ends, on top of what is
// static.
TEST(Memory, ABalanceOverTime) {
  const Replay r = with_samples(parse_program(R"(
    device gpu static=1000
    op a on gpu one 10us alloc=100
    op b on gpu one 10us alloc=50 free=120
    op c on gpu two 25us alloc=7
  )")
                                    .program);
  EXPECT_THAT(samples(r, 0),
              ElementsAre(std::pair(0, 1107), std::pair(10, 1157), std::pair(20, 1037)));
  EXPECT_THAT(r.peak_memory, ElementsAre(1157));
}

// 80 of a's 100 bytes are of a layer whose share of rows is its slot's: b gives back as many.
TEST(Memory, RoutedBytesFollowTheSlotsShare) {
  Program program = parse_program(R"(
    device gpu static=1000
    op a on gpu one 10us alloc=100
    op b on gpu one 10us free=100
  )")
                        .program;
  BlockTemplate& block = program.blocks[0];
  ASSERT_EQ(block.ops.size(), 2U);
  block.routed = {{0, 3, 0, false, 80}, {1, 3, 0, true, 80}};
  block.ops[0].routed = 0;
  block.ops[1].routed = 1;
  for (const auto& [share, taken] :
       {std::pair{kFullRate, 100}, {kFullRate * 3 / 2, 140}, {0U, 20}, {kFullRate * 3, 260}}) {
    program.shares = {share};
    program.slots[0].shares = 0;
    validate(program);
    const Replay r = with_samples(program);
    EXPECT_THAT(r.peak_memory, ElementsAre(1000 + taken));
    EXPECT_EQ(r.memory.back().bytes, 1000);
  }
  program.shares.clear();
  EXPECT_THROW(validate(program), Error);
}

// Even bytes stay what they are; a share of them is rounded up.
TEST(Memory, RoutedBytesAreRoundedUp) {
  for (const Bytes bytes : {Bytes{0}, Bytes{1}, Bytes{65535}, Bytes{65537}, Bytes{1} << 40}) {
    EXPECT_EQ(routed_bytes(bytes, kFullRate), bytes);
    EXPECT_EQ(routed_bytes(bytes, 5 * kFullRate), 5 * bytes);
    EXPECT_EQ(routed_bytes(bytes, kFullRate / 2), (bytes + 1) / 2);
    EXPECT_EQ(routed_bytes(bytes, 0), 0);
  }
}

// At one instant frees come before allocations: a's 100 bytes are b's.
TEST(Memory, FreesComeFirst) {
  const Replay r = with_samples(parse_program(R"(
    device gpu
    op a on gpu one 10us alloc=100 free=100
    op b on gpu one 10us alloc=100 free=100
  )")
                                    .program);
  EXPECT_THAT(r.peak_memory, ElementsAre(100));
}

TEST(Memory, WithoutSamplesThePeakIsTheSame) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Program program = testing::random_program(seed);
    const Replay with = with_samples(program), without = replay(program);
    EXPECT_TRUE(without.memory.empty());
    EXPECT_EQ(with.peak_memory, without.peak_memory);
    for (std::size_t d = 0; d < program.devices.size(); ++d) {
      Bytes peak = 0;
      for (const MemorySample& s : with.memory)
        if (s.device == d) peak = std::max(peak, s.bytes);
      EXPECT_EQ(peak, with.peak_memory[d]);
    }
  }
}

// In 1F1B, stage s of p holds the activations of at most p - s micro-batches.
TEST(Memory, OneForwardOneBackwardHoldsAFewMicroBatches) {
  testing::PipelineShape shape;
  shape.stages = 4;
  shape.micro_batches = 16;
  Program program = testing::simple_pipeline(shape);
  program.blocks[0].ops[1].alloc = 10;
  program.blocks[1].ops[1].free = 10;
  EXPECT_THAT(replay(program).peak_memory, ElementsAre(40, 30, 20, 10));
}

}  // namespace
}  // namespace steploom
