#include "profiler/fork_local.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profiler/peers.h"

namespace steploom {
namespace {

using ::testing::HasSubstr;

int join_and(const Place& place, const std::function<void(Peers&)>& act) {
  const auto peers = Peers::join(place, 0.5);
  act(*peers);
  return 0;
}

TEST(ForkLocal, RunsEveryRankOnce) {
  const int status = fork_local(4, [](const Place& place) {
    return join_and(place, [](Peers& peers) {
      const std::vector<std::string> all = peers.gather(std::to_string(peers.local_rank()));
      if (peers.first() && all != std::vector<std::string>{"0", "1", "2", "3"}) _exit(5);
    });
  });
  EXPECT_EQ(status, 0);
}

TEST(ForkLocal, TakesTheStatusOfARankThatFails) {
  ::testing::internal::CaptureStderr();
  const int status = fork_local(3, [](const Place& place) {
    return join_and(place, [](Peers& peers) {
      if (peers.rank() == 1) _exit(7);
      peers.meet();
    });
  });
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(status, 1);  // rank 0's, which saw rank 1 go
  EXPECT_THAT(said, HasSubstr("rank 1 is gone"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

// No rank is left that could say it.
TEST(ForkLocal, SaysWhatKilledTheRanks) {
  ::testing::internal::CaptureStderr();
  const int status = fork_local(2, [](const Place&) { return raise(SIGKILL); });
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("rank 0 was ended by signal 9"));
  EXPECT_EQ(status, 1);
}

// Ranks that wait for nothing, under a parent in a process of its own.
class Waiting : public ::testing::Test {
 protected:
  void SetUp() override {
    prctl(PR_SET_CHILD_SUBREAPER, 1);  // orphans come to this test
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    parent_ = fork();
    if (parent_ == 0) {
      _exit(fork_local(3, [&](const Place&) {
        const pid_t mine = getpid();
        if (write(ends[1], &mine, sizeof mine) != sizeof mine) return 1;
        return pause();
      }));
    }
    close(ends[1]);
    for (pid_t& rank : ranks_) ASSERT_EQ(read(ends[0], &rank, sizeof rank), sizeof rank);
    close(ends[0]);
  }
  void TearDown() override { prctl(PR_SET_CHILD_SUBREAPER, 0); }

  pid_t parent_ = -1;
  std::array<pid_t, 3> ranks_{};
};

TEST_F(Waiting, RanksEndWithAKilledParent) {
  kill(parent_, SIGKILL);
  int state = 0;
  EXPECT_EQ(waitpid(parent_, &state, 0), parent_);
  for (const pid_t rank : ranks_) {  // hangs if one lives on
    EXPECT_EQ(waitpid(rank, &state, 0), rank);
    EXPECT_TRUE(WIFSIGNALED(state));
  }
}

TEST_F(Waiting, AnInterruptedParentEndsItsRanks) {
  kill(parent_, SIGTERM);
  int state = 0;
  EXPECT_EQ(waitpid(parent_, &state, 0), parent_);
  EXPECT_TRUE(WIFEXITED(state));
  EXPECT_EQ(WEXITSTATUS(state), 128 + SIGTERM);
  for (const pid_t rank : ranks_) EXPECT_EQ(kill(rank, 0), -1);  // reaped by it
}

TEST(ForkLocal, AsksAChild) {
  EXPECT_EQ(ask_child([] { return 42; }), 42);
  EXPECT_EQ(ask_child([]() -> int { _exit(0); }), -1);
}

}  // namespace
}  // namespace steploom
