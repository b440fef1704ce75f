#include "tests/tools/cli_helper.h"

#include <gtest/gtest.h>

#include <system_error>

namespace steploom::testing {
namespace {

TEST(CliHelper, CapturesBothStreamsAndTheStatus) {
  const CliRun run = run_program("/bin/sh", {"-c", "echo to out; echo to err >&2; exit 3"});
  EXPECT_EQ(run.status, 3);
  EXPECT_EQ(run.out, "to out\n");
  EXPECT_EQ(run.err, "to err\n");
}

TEST(CliHelper, ArgumentsArriveAsTheyAre) {
  const CliRun run =
      run_program("/bin/sh", {"-c", "printf '<%s>' \"$@\"", "sh", "a b", "$x", "\""});
  EXPECT_EQ(run.out, "<a b><$x><\">");
}

// More than a pipe holds, on both streams at once.
TEST(CliHelper, MuchOutputDoesNotBlock) {
  const CliRun run = run_program(
      "/bin/sh", {"-c",
                  "i=0; while [ $i -lt 20000 ]; do echo 0123456789; echo 0123456789 >&2;"
                  " i=$((i+1)); done"});
  EXPECT_EQ(run.out.size(), 220'000U);
  EXPECT_EQ(run.err.size(), 220'000U);
}

TEST(CliHelper, RunsInAFolderWithoutInputOrColour) {
  const CliRun run = run_program("/bin/sh", {"-c", "pwd; cat; echo \"$NO_COLOR\""}, "/");
  EXPECT_EQ(run.out, "/\n1\n");
}

TEST(CliHelper, ASignalIsAStatus) {
  EXPECT_EQ(run_program("/bin/sh", {"-c", "kill -TERM $$"}).status, 128 + 15);
}

TEST(CliHelper, AMissingProgramIsAnException) {
  EXPECT_THROW(run_program("/nonexistent/steploom", {}), std::system_error);
}

}  // namespace
}  // namespace steploom::testing
