#include "sim/critical_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "sim/program_text.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

using ::testing::ElementsAre;

// Segments as text: "fc1 0-4 host", times in microseconds; idle ones in parentheses.
std::vector<std::string> segments_of(const Program& program, const Replay& result) {
  std::vector<std::string> out;
  for (const PathSegment& s : critical_path(program, result).segments) {
    const std::uint32_t slot = slot_of_op(program, s.op);
    const BlockTemplate& block = program.blocks[program.slots[slot].block];
    EXPECT_EQ(s.device, program.device_of_slot[slot]);
    std::string text = block.infos[s.op - program.slots[slot].first_op].name + " " +
                       std::to_string(s.start / 1'000'000) + "-" +
                       std::to_string(s.end / 1'000'000) + " " + std::string(name_of(s.cause));
    out.push_back(s.idle ? "(" + text + ")" : text);
  }
  return out;
}

std::vector<std::string> segments_of(std::string_view text) {
  const Program program = parse_program(text).program;
  return segments_of(program, replay(program));
}

TEST(CriticalPath, FollowsAStream) {
  EXPECT_THAT(segments_of("device a\n"
                          "op one on a compute 3us\n"
                          "op two on a compute 2us\n"),
              ElementsAre("one 0-3 host", "two 3-5 stream"));
}

TEST(CriticalPath, TakesTheLaterOfTwoBranches) {
  EXPECT_THAT(segments_of("device a\n"
                          "op short on a left 3us\n"
                          "op long on a right 4us\n"
                          "op join on a left 1us after=long,short\n"),
              ElementsAre("long 0-4 host", "join 4-5 dependency"));
}

// The receiver has waited since 0; the message moves once its sender has started, at 4.
TEST(CriticalPath, CrossesToTheMemberThatCameLast) {
  EXPECT_THAT(segments_of("device a\n"
                          "device b\n"
                          "comm pair a b\n"
                          "op fc on a compute 4us\n"
                          "op send on a pp 1us comm=pair send after=fc\n"
                          "op recv on b pp 1us comm=pair\n"
                          "op use on b compute 2us after=recv\n"),
              ElementsAre("fc 0-4 host", "recv 4-5 rendezvous", "use 5-7 dependency"));
}

TEST(CriticalPath, AnEagerMessageIsItsSenders) {
  EXPECT_THAT(segments_of("device a\n"
                          "device b\n"
                          "comm pair a b\n"
                          "op fc on a compute 4us\n"
                          "op send on a pp 1us comm=pair send eager after=fc\n"
                          "op recv on b pp 1us comm=pair eager\n"
                          "op use on b compute 2us after=recv\n"),
              ElementsAre("fc 0-4 host", "send 4-5 dependency", "use 5-7 dependency"));
}

// The message has arrived at 2; the receiver is there at 6 only, and waits for nothing.
TEST(CriticalPath, ALateReceiverFindsItsEagerMessage) {
  EXPECT_THAT(segments_of("device a\n"
                          "device b\n"
                          "comm pair a b\n"
                          "op send on a pp 2us comm=pair send eager\n"
                          "op busy on b compute 6us\n"
                          "op recv on b pp 1us comm=pair eager after=busy\n"
                          "op use on b next 2us after=recv\n"),
              ElementsAre("busy 0-6 host", "use 6-8 dependency"));
}

TEST(CriticalPath, FollowsEdgesBetweenSlots) {
  EXPECT_THAT(segments_of("device a\n"
                          "slot a F 0\n"
                          "op save on a side 5us\n"
                          "slot a B 0\n"
                          "op use on a compute 1us after=save\n"),
              ElementsAre("save 0-5 host", "use 5-6 slot edge"));
}

// Issued at 2 and at 4; each runs for 1.
TEST(CriticalPath, TheHostCanBeTheCause) {
  EXPECT_THAT(segments_of("device a\n"
                          "op one on a compute 1us launch=2us\n"
                          "op two on a compute 1us launch=2us\n"),
              ElementsAre("(two 0-4 host)", "two 4-5 host"));
}

// The host waits for `one` until 6, and takes 2 more to issue `two` in the next slot.
TEST(CriticalPath, TheHostWaitsForTheDevice) {
  EXPECT_THAT(segments_of("device a\n"
                          "slot a F 0\n"
                          "op one on a compute 5us launch=1us wait\n"
                          "slot a F 1\n"
                          "op two on a compute 1us launch=2us\n"),
              ElementsAre("(one 0-1 host)", "one 1-6 host", "(two 6-8 host)", "two 8-9 host"));
}

// With one connection `free` may not start before `held`, which waits for `first`.
TEST(CriticalPath, OneConnectionHoldsBackWhatIsIssuedLater) {
  EXPECT_THAT(segments_of("device a connections=1\n"
                          "op first on a one 5us\n"
                          "op held on a two 1us after=first\n"
                          "op free on a three 10us\n"),
              ElementsAre("first 0-5 host", "free 5-15 connection"));
}

// A contended replay: `two` waits for SMs until `one` is half done.
TEST(CriticalPath, WhatNothingExplainsIsWaiting) {
  const Program program = parse_program(
                              "device a\n"
                              "op one on a left 4us launch=1us\n"
                              "op two on a right 4us launch=1us\n")
                              .program;
  Replay result;
  result.start = {1'000'000, 3'000'000};
  result.end = {5'000'000, 8'000'000};
  result.makespan = 8'000'000;
  EXPECT_THAT(segments_of(program, result),
              ElementsAre("(two 0-2 host)", "(two 2-3 waiting)", "two 3-8 waiting"));
}

TEST(CriticalPath, NothingTakesNoTime) {
  EXPECT_TRUE(segments_of("device a\n").empty());
  EXPECT_TRUE(segments_of("device a\nop nothing on a compute 0us\n").empty());
}

TEST(CriticalPath, SumsAreByWhatRan) {
  Program program = parse_program(
                        "device a\n"
                        "op fc on a compute 3us launch=1us\n"
                        "op reduce on a comm 2us after=fc\n")
                        .program;
  program.blocks[0].infos[0].provenance = Provenance::measured;
  program.blocks[0].infos[1].work.kind = OpKind::all_reduce;
  const CriticalPath path = critical_path(program, replay(program));
  EXPECT_EQ(path.by_class[static_cast<std::size_t>(OpClass::matmul)], 3'000'000);
  EXPECT_EQ(path.by_class[static_cast<std::size_t>(OpClass::communication)], 2'000'000);
  EXPECT_EQ(path.by_kind[static_cast<std::size_t>(OpKind::all_reduce)], 2'000'000);
  EXPECT_EQ(path.by_provenance[static_cast<std::size_t>(Provenance::measured)], 3'000'000);
  EXPECT_EQ(path.by_provenance[static_cast<std::size_t>(Provenance::modelled)], 2'000'000);
  EXPECT_EQ(path.host, 1'000'000);
  EXPECT_EQ(path.waiting, 0);
}

Picoseconds sum(const auto& parts) {
  return std::accumulate(parts.begin(), parts.end(), Picoseconds{0});
}

// Segments tile [0, makespan] and add up; an operator's lie inside its own time.
void expect_tiles(const Program& program, const Replay& result, std::uint64_t seed) {
  const CriticalPath path = critical_path(program, result);
  Picoseconds at = 0;
  for (const PathSegment& s : path.segments) {
    ASSERT_EQ(s.start, at) << "seed " << seed;
    ASSERT_GT(s.end, s.start) << "seed " << seed;
    at = s.end;
    if (s.idle) {
      ASSERT_LE(s.end, result.start[s.op]) << "seed " << seed;
    } else {
      ASSERT_GE(s.start, result.start[s.op]) << "seed " << seed;
      ASSERT_LE(s.end, result.end[s.op]) << "seed " << seed;
    }
  }
  ASSERT_EQ(at, result.makespan) << "seed " << seed;
  const Picoseconds idle = path.host + path.waiting;
  ASSERT_EQ(sum(path.by_class) + idle, at) << "seed " << seed;
  ASSERT_EQ(sum(path.by_kind) + idle, at) << "seed " << seed;
  ASSERT_EQ(sum(path.by_provenance) + idle, at) << "seed " << seed;
}

TEST(CriticalPath, TilesTheStepOfAnyProgram) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const Program program = testing::random_program(seed);
    const Replay result = replay(program);
    expect_tiles(program, result, seed);
    // Nothing waits for SMs where there is no contention.
    ASSERT_EQ(critical_path(program, result).waiting, 0) << "seed " << seed;
  }
}

TEST(CriticalPath, TilesTheStepUnderContention) {
  Picoseconds waiting = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const Program program = testing::random_program(seed);
    const Contention contention = testing::random_contention(seed);
    ReplayOptions options;
    options.contention = &contention;
    const Replay result = replay(program, options);
    expect_tiles(program, result, seed);
    waiting += critical_path(program, result).waiting;
  }
  EXPECT_GT(waiting, 0);  // it did happen
}

}  // namespace
}  // namespace steploom
