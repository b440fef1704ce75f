#include "sim/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/program_text.h"

namespace steploom {
namespace {

using testing::ElementsAre;

constexpr Picoseconds kMicrosecond = 1'000'000;

// Two stages, one message between them; a kernel of 4 us, a message of 1 us, a kernel of 2 us.
constexpr const char* kPipeline = R"(
device first static=100
device second
comm pair first second
slot first F 7
op fc1  on first  compute 4us
op send on first  pp 1us comm=pair send after=fc1 alloc=50
slot second F 7
op recv on second pp 1us comm=pair
op fc1  on second compute 2us after=recv
)";

Timeline timeline_of(const Program& program) {
  ReplayOptions options;
  options.record_memory = true;
  return make_timeline(program, replay(program, options));
}

TEST(Timeline, HasTheTimesOfTheReplayByOperatorId) {
  const Program program = parse_program(kPipeline).program;
  const Replay result = replay(program);
  const Timeline t = make_timeline(program, result);
  ASSERT_EQ(t.events.size(), program.op_count);
  EXPECT_EQ(t.makespan, 7 * kMicrosecond);
  for (std::uint32_t op = 0; op < program.op_count; ++op) {
    EXPECT_EQ(t.events[op].start, result.start[op]);
    EXPECT_EQ(t.events[op].end, result.end[op]);
  }
  // The receive starts at once and waits for its sender.
  const TimelineEvent& receive = t.events[operator_named(program, "second", "recv")];
  EXPECT_EQ(receive.start, 0);
  EXPECT_EQ(receive.end, 5 * kMicrosecond);
}

TEST(Timeline, SaysWhereAnEventBelongs) {
  const Program program = parse_program(kPipeline).program;
  const Timeline t = timeline_of(program);
  const TimelineEvent& kernel = t.events[operator_named(program, "second", "fc1")];
  EXPECT_EQ(t.devices[kernel.device].name, "second");
  EXPECT_EQ(t.slots[kernel.slot].micro_batch, 7);
  EXPECT_EQ(t.slots[kernel.slot].device, kernel.device);
  EXPECT_EQ(t.names[t.slots[kernel.slot].name], "F");
  EXPECT_EQ(kernel.group, kNoGroup);
  EXPECT_EQ(kernel.peer, kNoEvent);
  EXPECT_LT(kernel.stream, t.streams.size());
}

TEST(Timeline, OneNameIsOneString) {
  const Program program = parse_program(kPipeline).program;
  const Timeline t = timeline_of(program);
  const std::uint32_t name = t.events[operator_named(program, "first", "fc1")].name;
  EXPECT_EQ(name, t.events[operator_named(program, "second", "fc1")].name);
  EXPECT_EQ(t.names[name], "fc1");
}

TEST(Timeline, TheEndsOfAMessageKnowEachOther) {
  const Program program = parse_program(kPipeline).program;
  const Timeline t = timeline_of(program);
  const std::uint32_t send = operator_named(program, "first", "send");
  const std::uint32_t receive = operator_named(program, "second", "recv");
  EXPECT_EQ(t.events[send].peer, receive);
  EXPECT_EQ(t.events[receive].peer, send);
  EXPECT_TRUE(t.events[send].sender);
  EXPECT_FALSE(t.events[receive].sender);
  EXPECT_EQ(t.groups[t.events[send].group].name, "pair");
  EXPECT_THAT(t.groups[t.events[send].group].members, ElementsAre(0, 1));
}

TEST(Timeline, MembersOfACollectiveAreNoPair) {
  const Timeline t = timeline_of(parse_program(R"(
device a
device b
comm ep a b
op a2a on a comm 1us comm=ep
op a2a on b comm 1us comm=ep
)")
                                     .program);
  EXPECT_EQ(t.events[0].peer, kNoEvent);
  EXPECT_EQ(t.events[0].group, t.events[1].group);
}

TEST(Timeline, AFoldedGroupCountsItsRanks) {
  Program program = parse_program("device a\ncomm dp a\nop reduce on a comm 1us comm=dp\n").program;
  EXPECT_EQ(timeline_of(program).groups[0].ranks, 1U);  // as many as members
  program.communicators[0].ranks = 16;
  EXPECT_EQ(timeline_of(program).groups[0].ranks, 16U);
}

TEST(Timeline, MemoryIsKeptWhenRecorded) {
  const Program program = parse_program(kPipeline).program;
  const Timeline t = timeline_of(program);
  EXPECT_EQ(t.devices[0].peak_memory, 150);
  EXPECT_EQ(t.memory.size(), 3U);  // both devices at 0, the allocation at 4 us
  EXPECT_EQ(t.memory.back().time, 4 * kMicrosecond);
  EXPECT_EQ(t.memory.back().bytes, 150);
  EXPECT_TRUE(make_timeline(program, replay(program)).memory.empty());
}

TEST(Timeline, ACopyOfTheTextOutlivesItsProgram) {
  const Timeline t = [] {
    const Program program = parse_program(kPipeline).program;
    return timeline_of(program);
  }();
  EXPECT_EQ(t.names[t.events[0].name], "fc1");
}

}  // namespace
}  // namespace steploom
