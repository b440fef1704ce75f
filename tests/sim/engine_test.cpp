#include "sim/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/error.h"
#include "sim/program_text.h"
#include "tests/sim/pipeline_programs.h"

namespace steploom {
namespace {

constexpr Picoseconds kMicrosecond = 1'000'000;

// Start and end of an operator in microseconds.
struct Span {
  Picoseconds start, end;
  bool operator==(const Span&) const = default;
};
void PrintTo(const Span& s, std::ostream* out) {
  *out << s.start << " to " << s.end;
}

struct Replayed {
  explicit Replayed(std::string_view text) : program(parse_program(text).program) {
    result = replay(program);
  }
  Span operator()(std::string_view device, std::string_view op) const {
    const std::uint32_t id = operator_named(program, device, op);
    EXPECT_EQ(result.start[id] % kMicrosecond + result.end[id] % kMicrosecond, 0);
    return {result.start[id] / kMicrosecond, result.end[id] / kMicrosecond};
  }
  Program program;
  Replay result;
};

std::string refusal(const auto& act) {
  try {
    act();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Engine, AnEmptyProgramTakesNoTime) {
  Program program;
  finalize(program);
  EXPECT_EQ(replay(program).makespan, 0);
}

// Operators of a stream run one after another; streams run side by side.
TEST(Engine, StreamsRunSideBySide) {
  const Replayed at(R"(
    device gpu
    op a on gpu one 10us
    op b on gpu one 5us
    op c on gpu two 7us
  )");
  EXPECT_EQ(at("gpu", "a"), (Span{0, 10}));
  EXPECT_EQ(at("gpu", "b"), (Span{10, 15}));
  EXPECT_EQ(at("gpu", "c"), (Span{0, 7}));
  EXPECT_EQ(at.result.makespan, 15 * kMicrosecond);
}

// A dependency joins streams, also out of an earlier slot.
TEST(Engine, DependenciesJoinStreams) {
  const Replayed at(R"(
    device gpu
    slot gpu F 0
    op a on gpu one 10us
    slot gpu B 0
    op b on gpu two 1us
    op c on gpu two 5us after=a,b
    op d on gpu one 1us after=c
  )");
  EXPECT_EQ(at("gpu", "b"), (Span{0, 1}));
  EXPECT_EQ(at("gpu", "c"), (Span{10, 15}));
  EXPECT_EQ(at("gpu", "d"), (Span{15, 16}));
}

// The host issues one operator after the other, whatever its stream: the third has been issued
// after three launches. When kernels are longer than launches, the host runs ahead.
TEST(Engine, TheHostIssuesInProgramOrder) {
  const Replayed at(R"(
    device gpu
    op a on gpu one 1us launch=4us
    op b on gpu two 20us launch=4us
    op c on gpu one 1us launch=4us
    op d on gpu two 1us launch=4us
  )");
  EXPECT_EQ(at("gpu", "a"), (Span{4, 5}));
  EXPECT_EQ(at("gpu", "b"), (Span{8, 28}));
  EXPECT_EQ(at("gpu", "c"), (Span{12, 13}));
  EXPECT_EQ(at("gpu", "d"), (Span{28, 29}));
}

// The host stops at an operator that it waits for, and goes on issuing when that has ended.
TEST(Engine, TheHostWaitsForTheDevice) {
  const Replayed at(R"(
    device gpu
    op route  on gpu one 10us launch=1us wait
    op expert on gpu one 5us launch=2us
    op other  on gpu two 1us launch=2us wait
    slot gpu next
    op last   on gpu two 1us launch=3us
  )");
  EXPECT_EQ(at("gpu", "route"), (Span{1, 11}));
  EXPECT_EQ(at("gpu", "expert"), (Span{13, 18}));
  EXPECT_EQ(at("gpu", "other"), (Span{15, 16}));
  EXPECT_EQ(at("gpu", "last"), (Span{19, 20}));
}

// With one hardware connection nothing starts before everything issued earlier has started; it may
// still run beside it.
TEST(Engine, OneConnectionStartsInIssueOrder) {
  const char* const graph = R"(
    op a on gpu one 10us
    op b on gpu one 10us
    op c on gpu two 3us
    op d on gpu two 3us
  )";
  const Replayed many("device gpu connections=32" + std::string(graph));
  EXPECT_EQ(many("gpu", "c"), (Span{0, 3}));
  const Replayed one("device gpu connections=1" + std::string(graph));
  EXPECT_EQ(one("gpu", "b"), (Span{10, 20}));
  EXPECT_EQ(one("gpu", "c"), (Span{10, 13}));
  EXPECT_EQ(one("gpu", "d"), (Span{13, 16}));
}

// A collective progresses once its last member has started, takes as long as its slowest member,
// and ends everywhere at once; a member that came early has started and waits.
TEST(Engine, ACollectiveWaitsForItsLastMember) {
  const Replayed at(R"(
    device gpu0
    device gpu1
    comm ep gpu0 gpu1
    op a2a on gpu0 comm 5us comm=ep
    op work on gpu1 compute 8us
    op a2a on gpu1 comm 6us comm=ep after=work
    op next on gpu0 compute 1us after=a2a
  )");
  EXPECT_EQ(at("gpu0", "a2a"), (Span{0, 14}));
  EXPECT_EQ(at("gpu1", "a2a"), (Span{8, 14}));
  EXPECT_EQ(at("gpu0", "next"), (Span{14, 15}));
}

// The k-th operator that a member issues on a communicator meets the k-th of the others, whatever
// stream runs it. Here the second meets the second: ends 3 and 7, not the reverse.
TEST(Engine, MembersMeetInIssueOrder) {
  const Replayed at(R"(
    device gpu0
    device gpu1
    comm ep gpu0 gpu1
    op first on gpu0 a 3us comm=ep
    op second on gpu0 b 4us comm=ep
    op x on gpu1 c 3us comm=ep
    op y on gpu1 c 4us comm=ep
  )");
  EXPECT_EQ(at("gpu0", "first"), (Span{0, 3}));
  EXPECT_EQ(at("gpu0", "second"), (Span{0, 7}));
  EXPECT_EQ(at("gpu1", "y"), (Span{3, 7}));
}

// An eager sender ends by itself; a receiver that comes late finds the message there, one that
// comes early waits for it.
TEST(Engine, EagerMessages) {
  const Replayed at(R"(
    device gpu0
    device gpu1
    comm pp gpu0 gpu1
    op s0 on gpu0 net 2us comm=pp eager send
    op s1 on gpu0 net 2us comm=pp eager send
    op r0 on gpu1 net 2us comm=pp eager
    op work on gpu1 compute 9us after=r0
    op r1 on gpu1 net 2us comm=pp eager after=work
  )");
  EXPECT_EQ(at("gpu0", "s1"), (Span{2, 4}));
  EXPECT_EQ(at("gpu1", "r0"), (Span{0, 2}));
  EXPECT_EQ(at("gpu1", "r1"), (Span{11, 11}));
}

// Two devices that enter two collectives in opposite order wait for each other for ever; the
// message names the cycle.
TEST(Engine, ADeadlockIsNamed) {
  const std::string text = refusal([] {
    Replayed(R"(
      device gpu0
      device gpu1
      comm x gpu0 gpu1
      comm y gpu0 gpu1
      op a on gpu0 comm 1us comm=x
      op b on gpu0 comm 1us comm=y
      op c on gpu1 comm 1us comm=y
      op d on gpu1 comm 1us comm=x
    )");
  });
  EXPECT_EQ(
      text,
      "replay: expected every operator to end, found a deadlock: "
      "gpu0 · step 0 · a [stream 0] waits for gpu1 · step 0 · d [stream 0] (rendezvous on x); "
      "gpu1 · step 0 · d [stream 0] waits for gpu1 · step 0 · c [stream 0] (stream order); "
      "gpu1 · step 0 · c [stream 0] waits for gpu0 · step 0 · b [stream 0] (rendezvous on y); "
      "gpu0 · step 0 · b [stream 0] waits for gpu0 · step 0 · a [stream 0] (stream order)");
}

// A member that never comes is no cycle: the message says who is missing.
TEST(Engine, AMissingMemberIsNamed) {
  const std::string text = refusal([] {
    Replayed(R"(
      device gpu0
      device gpu1
      comm x gpu0 gpu1
      op a on gpu0 comm 1us comm=x
    )");
  });
  EXPECT_THAT(text, ::testing::HasSubstr("a [stream 0] waits for gpu1, which issues no such"));
}

// The host that waits for a collective whose peer waits for what this host has not issued yet.
TEST(Engine, AHostWaitCanDeadlock) {
  const std::string text = refusal([] {
    Replayed(R"(
      device gpu0
      device gpu1
      comm x gpu0 gpu1
      comm y gpu0 gpu1
      op a on gpu0 one 1us comm=x wait
      op b on gpu0 two 1us comm=y
      op c on gpu1 one 1us comm=y
      op d on gpu1 one 1us comm=x
    )");
  });
  EXPECT_THAT(text, ::testing::HasSubstr("(the host waits)"));
}

// Equal stages, messages that take no time: a 1F1B pipeline of p stages and m micro-batches idles
// (p - 1) / (m + p - 1) of the step, that is, the step is (m + p - 1)(F + B).
TEST(Engine, TheBubbleOfOneForwardOneBackward) {
  for (const std::uint32_t p : {1u, 2u, 4u, 8u})
    for (const std::uint32_t m : {1u, 2u, 4u, 8u, 32u}) {
      testing::PipelineShape shape;
      shape.stages = p;
      shape.micro_batches = m;
      EXPECT_EQ(replay(testing::simple_pipeline(shape)).makespan, (m + p - 1) * 3000)
          << p << " stages, " << m << " micro-batches";
    }
}

}  // namespace
}  // namespace steploom
