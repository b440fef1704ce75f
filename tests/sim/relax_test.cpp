#include "sim/relax.h"

#include <gtest/gtest.h>

#include "models/error.h"
#include "sim/engine.h"
#include "sim/program_text.h"
#include "tests/sim/pipeline_programs.h"
#include "tests/sim/random_programs.h"

namespace steploom {
namespace {

// Without contention the longest path is the replay: the same end for every operator.
TEST(Relax, EqualsReplayWithoutContention) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Program program = testing::random_program(seed);
    const Replay exact = replay(program);
    const Relaxation relaxed = relax(program);
    ASSERT_EQ(relaxed.end, exact.end) << "seed " << seed;
    EXPECT_EQ(relaxed.makespan, exact.makespan);
    EXPECT_EQ(relaxed_makespan(program), exact.makespan);
  }
}

// gpu0 issues a receive, work that needs it, and then a send on another stream that gpu1 needs
// before it sends: no deadlock, but a sweep in issue order stops at the work. 5 + 5 + 3 = 13 us.
TEST(Relax, FallsBackWhereIssueOrderStops) {
  const Program program = parse_program(R"(
    device gpu0
    device gpu1
    comm there gpu0 gpu1
    comm back gpu0 gpu1
    op receive on gpu0 in 5us comm=back
    op work on gpu0 compute 3us after=receive
    op send on gpu0 out 5us comm=there
    op receive on gpu1 in 5us comm=there
    op send on gpu1 out 5us comm=back after=receive
  )")
                              .program;
  EXPECT_EQ(relax(program).makespan, 13'000'000);
  EXPECT_EQ(relaxed_makespan(program), 13'000'000);
}

TEST(Relax, ReportsADeadlock) {
  const Program program = parse_program(R"(
    device gpu0
    device gpu1
    comm x gpu0 gpu1
    op a on gpu0 comm 1us comm=x
  )")
                              .program;
  EXPECT_THROW(relax(program), Error);
  EXPECT_THROW(relaxed_makespan(program), Error);
}

TEST(Relax, ThePipelineBubble) {
  testing::PipelineShape shape;
  shape.stages = 8;
  shape.micro_batches = 32;
  EXPECT_EQ(relaxed_makespan(testing::simple_pipeline(shape)), (32 + 8 - 1) * 3000);
}

}  // namespace
}  // namespace steploom
