// Peers with real processes over loopback, and what becomes of them when one dies.
#include "profiler/peers.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "profiler/measure_fail.h"

namespace steploom {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kPatience = 10;     // where nobody is waited for in vain
constexpr double kImpatience = 0.5;  // where somebody is
constexpr double kSlack = 1.5;       // of a busy machine
constexpr double kHang = 20;         // a test that takes so long has failed

using RankMain = std::function<int(Peers&)>;
using PlacedMain = std::function<int(Peers&, const Place&)>;

// A run on this host, as torchrun would say it. Tests may run at the same time: names differ by
// pid.
std::vector<Place> places_of(int ranks, const std::string& name) {
  std::vector<Place> places;
  for (int rank = 0; rank < ranks; ++rank) {
    places.push_back(place_from({{"RANK", std::to_string(rank)},
                                 {"WORLD_SIZE", std::to_string(ranks)},
                                 {"LOCAL_RANK", std::to_string(rank)},
                                 {"LOCAL_WORLD_SIZE", std::to_string(ranks)},
                                 {"MASTER_ADDR", "localhost"},
                                 {"MASTER_PORT", "29500"},
                                 {"TORCHELASTIC_RUN_ID", name + std::to_string(getpid())}}));
  }
  return places;
}

struct Outcome {
  std::vector<int> states;  // as waitpid says, by place
  std::string said;         // on all standard errors
  double seconds = 0;       // until the last one ended

  long messages() const { return std::count(said.begin(), said.end(), '\n'); }
};

int exited(int status) {
  return status << 8;
}

// Starts one process for each place and waits for all; kills what hangs.
Outcome run_placed(const std::vector<Place>& places, const PlacedMain& rank_main, double patience) {
  int error[2];
  EXPECT_EQ(pipe(error), 0);
  const Clock::time_point start = Clock::now();
  std::vector<pid_t> pids;
  for (const Place& place : places) {
    const pid_t pid = fork();
    if (pid == 0) {
      dup2(error[1], STDERR_FILENO);
      int status = 1;
      {
        const auto peers = Peers::join(place, patience);
        status = rank_main(*peers, place);
      }
      _exit(status);
    }
    pids.push_back(pid);
  }
  close(error[1]);
  Outcome outcome;
  outcome.states.resize(pids.size(), -1);
  std::size_t ended = 0;
  while (ended < pids.size()) {
    for (std::size_t i = 0; i < pids.size(); ++i) {
      if (outcome.states[i] == -1 && waitpid(pids[i], &outcome.states[i], WNOHANG) == pids[i]) {
        ++ended;
        outcome.seconds = std::chrono::duration<double>(Clock::now() - start).count();
      }
    }
    if (std::chrono::duration<double>(Clock::now() - start).count() > kHang) {
      for (const pid_t pid : pids) kill(pid, SIGKILL);
      ADD_FAILURE() << "a rank hangs";
    }
    usleep(1000);
  }
  std::array<char, 4096> some;
  for (ssize_t count = 0; (count = read(error[0], some.data(), some.size())) > 0;) {
    outcome.said.append(some.data(), static_cast<std::size_t>(count));
  }
  close(error[0]);
  return outcome;
}

Outcome run_all(const std::vector<Place>& places, const RankMain& rank_main,
                double patience = kPatience) {
  return run_placed(
      places, [&](Peers& peers, const Place&) { return rank_main(peers); }, patience);
}

class PeersOf : public ::testing::TestWithParam<int> {};

TEST_P(PeersOf, ShareAgreeGatherAndMeet) {
  const int ranks = GetParam();
  const Outcome outcome = run_all(places_of(ranks, "agree"), [ranks](Peers& peers) {
    bool right = peers.ranks() == ranks && peers.local_rank() == peers.rank();
    for (int round = 0; round < 20; ++round) {
      const std::string mine = "rank " + std::to_string(peers.rank()) + std::string(1, '\0');
      right = right && peers.share(mine) == std::string("rank 0\0", 7);
      right = right && peers.most(-peers.rank()) == 0;
      right = right && peers.most(10.5 * peers.rank()) == 10.5 * (ranks - 1);
      peers.doing("round " + std::to_string(round));
      peers.meet();
    }
    // Megabytes that no socket buffer holds, of another length at each rank.
    const auto letter = [](int rank) { return static_cast<char>('a' + rank); };
    const auto length = [](int rank) { return std::size_t{1'000'000} * (rank % 3); };
    const int rank = peers.rank();
    const std::vector<std::string> all = peers.gather(std::string(length(rank), letter(rank)));
    right = right && all.size() == (rank == 0 ? static_cast<std::size_t>(ranks) : 0);
    for (std::size_t from = 0; from < all.size(); ++from) {
      const int r = static_cast<int>(from);
      right = right && all[from] == std::string(length(r), letter(r));
    }
    right =
        right && peers.share(std::string(3'000'000, letter(rank))) == std::string(3'000'000, 'a');
    return right ? 0 : 3;
  });
  EXPECT_EQ(outcome.states, std::vector<int>(static_cast<std::size_t>(ranks), exited(0)));
  EXPECT_EQ(outcome.said, "");
}

INSTANTIATE_TEST_SUITE_P(Ranks, PeersOf, ::testing::Values(1, 2, 5));

// Three ranks take a round together; then `rank` does something else than come to the next one.
Outcome one_strays(int rank, const std::function<void()>& strays, double patience = kPatience) {
  return run_all(
      places_of(3, "stray"),
      [&](Peers& peers) {
        peers.keeping("points.jsonl");
        peers.doing("tracing all_reduce");
        peers.meet();  // now all have said so
        if (peers.rank() == rank) strays();
        peers.meet();
        return 0;
      },
      patience);
}

void expect_one_message(const Outcome& outcome, const std::string& names) {
  EXPECT_THAT(outcome.said, AllOf(HasSubstr(names), HasSubstr("while"), HasSubstr("all_reduce")));
  EXPECT_EQ(outcome.messages(), 1) << outcome.said;
  EXPECT_LT(outcome.seconds, kImpatience + kSlack);
}

TEST(Peers, ARankThatExitsEndsTheRun) {
  const Outcome outcome = one_strays(2, [] { _exit(0); });
  EXPECT_EQ(outcome.states, (std::vector<int>{exited(1), exited(1), exited(0)}));
  expect_one_message(outcome, "rank 2 is gone");
  EXPECT_THAT(outcome.said, HasSubstr("is in points.jsonl"));
}

TEST(Peers, ARankThatIsKilledEndsTheRun) {
  const Outcome outcome = one_strays(1, [] { raise(SIGKILL); });
  EXPECT_EQ(outcome.states, (std::vector<int>{exited(1), SIGKILL, exited(1)}));
  expect_one_message(outcome, "rank 1 is gone");
}

TEST(Peers, ARankThatHangsEndsTheRun) {
  const Outcome outcome = one_strays(
      1, [] { pause(); }, kImpatience);
  EXPECT_EQ(outcome.states, (std::vector<int>{exited(1), exited(1), exited(1)}));
  expect_one_message(outcome, "rank 1 has not come back");
}

TEST(Peers, ARunInWhichAllHangEnds) {
  const Outcome outcome = run_all(
      places_of(3, "all"),
      [](Peers& peers) {
        peers.doing("waiting in all_reduce");
        return pause();
      },
      kImpatience);
  EXPECT_EQ(outcome.states, (std::vector<int>{exited(1), exited(1), exited(1)}));
  expect_one_message(outcome, "every rank has not come back");
}

TEST(Peers, RankOneSpeaksIfRankZeroIsKilled) {
  const Outcome outcome = one_strays(0, [] { raise(SIGKILL); });
  EXPECT_EQ(outcome.states, (std::vector<int>{SIGKILL, exited(1), exited(1)}));
  expect_one_message(outcome, "rank 0 is gone");
}

TEST(Peers, RankOneSpeaksIfRankZeroIsFrozen) {
  const pid_t test = getpid();
  const Outcome outcome = one_strays(
      0,
      [test] {
        const pid_t frozen = getpid();
        if (fork() == 0) {  // thaws it, so that it ends
          usleep(static_cast<useconds_t>(1e6 * (kImpatience + 0.3)));
          kill(frozen, SIGKILL);
          _exit(0);
        }
        EXPECT_NE(frozen, test);
        raise(SIGSTOP);
      },
      kImpatience);
  EXPECT_EQ(outcome.states, (std::vector<int>{SIGKILL, exited(1), exited(1)}));
  expect_one_message(outcome, "rank 0 has not answered");
}

TEST(Peers, ARanksFaultIsSaidOnceByRankZero) {
  const Outcome outcome = one_strays(2, [] { fail("CUDA: out of memory"); });
  EXPECT_EQ(outcome.states, (std::vector<int>{exited(1), exited(1), exited(1)}));
  EXPECT_THAT(outcome.said, HasSubstr("rank 2: CUDA: out of memory"));
  EXPECT_EQ(outcome.messages(), 1) << outcome.said;
  const Outcome first = one_strays(0, [] { fail("CUDA: out of memory"); });
  EXPECT_EQ(first.states, (std::vector<int>{exited(1), exited(1), exited(1)}));
  EXPECT_THAT(first.said, HasSubstr("rank 0: CUDA: out of memory"));
  EXPECT_EQ(first.messages(), 1) << first.said;
}

TEST(Peers, RanksThatTakeDifferentRoundsAreFound) {
  const Outcome outcome = one_strays(1, [] {});
  EXPECT_EQ(outcome.said, "");
  const Outcome differ = run_all(places_of(2, "differ"), [](Peers& peers) {
    if (peers.first()) {
      peers.meet();
    } else {
      peers.most(1);
    }
    return 0;
  });
  EXPECT_THAT(differ.said, HasSubstr("rank 1 came to another round"));
  EXPECT_EQ(differ.states, (std::vector<int>{exited(1), exited(1)}));
}

TEST(Peers, ARankThatNeverComesEndsTheRun) {
  std::vector<Place> places = places_of(3, "absent");
  places.erase(places.begin() + 1);
  const Outcome outcome = run_all(
      places, [](Peers&) { return 0; }, kImpatience);
  EXPECT_EQ(outcome.states, (std::vector<int>{exited(1), exited(1)}));
  EXPECT_THAT(outcome.said, HasSubstr("rank 1 of 3 did not come within 0.4 s"));
  EXPECT_EQ(outcome.messages(), 1) << outcome.said;
  EXPECT_LT(outcome.seconds, kImpatience + kSlack);
}

TEST(Peers, ARankZeroThatNeverComesEndsTheRun) {
  std::vector<Place> places = places_of(3, "headless");
  places.erase(places.begin());
  const Outcome outcome = run_all(
      places, [](Peers&) { return 0; }, kImpatience);
  EXPECT_EQ(outcome.states, (std::vector<int>{exited(1), exited(1)}));
  EXPECT_THAT(outcome.said, HasSubstr("rank 0 was not found within 0.5 s at 127.0.0.1"));
  EXPECT_EQ(outcome.messages(), 1) << outcome.said;
}

// Both runs want the same ports.
TEST(Peers, RunsSideBySideDoNotMix) {
  std::vector<Place> places = places_of(3, "left");
  for (Place place : places_of(3, "right")) {
    place.ports = places[0].ports;
    places.push_back(place);
  }
  const Outcome outcome = run_placed(
      places,
      [](Peers& peers, const Place& mine) {
        for (int round = 0; round < 50; ++round) {
          if (peers.share(mine.run) != mine.run) return 3;
          for (const std::string& other : peers.gather(mine.run)) {
            if (other != mine.run) return 4;
          }
        }
        return 0;
      },
      kPatience);
  EXPECT_EQ(outcome.states, std::vector<int>(6, exited(0)));
  EXPECT_EQ(outcome.said, "");
}

// Somebody who talks another language, one of another run, and one who says nothing come first.
TEST(Peers, StrangersAreTurnedAway) {
  std::vector<Place> places = places_of(2, "strangers");
  Socket listener = listen_on(0, true);
  ASSERT_TRUE(listener.open());
  for (Place& place : places) place.ports = {port_of(listener)};
  const Clock::time_point soon = Clock::now() + std::chrono::seconds(1);
  std::vector<Socket> strangers;
  for (const std::string& says : {std::string(100'000, 'x'), std::string("GET / HTTP/1.1\r\n\r\n"),
                                  std::string("steploom") + std::string(24, '\1'), std::string()}) {
    strangers.push_back(connect_to("127.0.0.1", places[0].ports[0], soon));
    ASSERT_TRUE(strangers.back().open());
    EXPECT_TRUE(send_bytes(strangers.back().fd(), says));
  }
  places[0].listener = listener.release();
  const Outcome outcome = run_all(places, [](Peers& peers) {
    usleep(20'000);
    return peers.most(peers.rank()) == 1 ? 0 : 3;
  });
  EXPECT_EQ(outcome.states, (std::vector<int>{exited(0), exited(0)}));
  EXPECT_EQ(outcome.said, "");
  close(places[0].listener);
}

TEST(Peers, AProcessAloneNeedsNoOther) {
  Place alone;
  const auto peers = Peers::join(alone, 60);
  EXPECT_EQ(peers->ranks(), 1);
  EXPECT_EQ(peers->share("x"), "x");
  EXPECT_EQ(peers->gather("y"), std::vector<std::string>{"y"});
  EXPECT_LT(peers->seconds(), 10);
}

}  // namespace
}  // namespace steploom
