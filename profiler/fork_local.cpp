#include "profiler/fork_local.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "profiler/frames.h"
#include "profiler/measure_fail.h"

namespace steploom {
namespace {

class BlockedSignals {  // SIGINT, SIGTERM and SIGCHLD wait until they are asked for
 public:
  BlockedSignals() {
    sigemptyset(&set_);
    for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&set_, signal);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
  }
  ~BlockedSignals() { restore(); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  void restore() const { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  // 0 when the time is over.
  int next(double seconds) const {
    timespec limit{};
    limit.tv_sec = static_cast<time_t>(seconds);
    limit.tv_nsec = static_cast<long>(1e9 * (seconds - static_cast<double>(limit.tv_sec)));
    return std::max(0, sigtimedwait(&set_, nullptr, &limit));
  }

 private:
  sigset_t set_, before_;
};

struct Child {
  pid_t pid = -1;
  bool running = true;
  int state = 0;  // as waitpid says
};

void tell(const std::vector<Child>& children, int signal) {
  for (const Child& child : children) {
    if (child.running) kill(child.pid, signal);
  }
}

bool any_running(const std::vector<Child>& children) {
  return std::any_of(children.begin(), children.end(), [](const Child& c) { return c.running; });
}

// Whether a rank has ended that ought not to have.
bool reap(std::vector<Child>& children) {
  bool died = false;
  for (Child& child : children) {
    if (!child.running || waitpid(child.pid, &child.state, WNOHANG) != child.pid) continue;
    child.running = false;
    died = died || child.state != 0;
  }
  return died;
}

int status_of(const std::vector<Child>& children) {
  for (const Child& child : children) {
    if (WIFEXITED(child.state) && WEXITSTATUS(child.state) != 0) return WEXITSTATUS(child.state);
  }
  for (std::size_t rank = 0; rank < children.size(); ++rank) {
    if (!WIFSIGNALED(children[rank].state)) continue;
    const int signal = WTERMSIG(children[rank].state);
    std::fprintf(stderr, "%s: rank %zu was ended by signal %d (%s)\n",
                 program_invocation_short_name, rank, signal, strsignal(signal));
    return 1;
  }
  return 0;
}

[[noreturn]] void be_rank(const Place& place, const std::function<int(const Place&)>& rank_main) {
  int status = 1;
  try {
    status = rank_main(place);
  } catch (const std::exception& fault) {
    fail(fault.what());
  }
  std::fflush(nullptr);
  _exit(status);
}

// Ends with the parent: not an orphan, even where the parent had no time to say so.
void die_with(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
}

std::string run_name(int port) {
  return "fork " + std::to_string(getpid()) + " " + std::to_string(port);
}

}  // namespace

int fork_local(int ranks, const std::function<int(const Place&)>& rank_main) {
  Socket listener = listen_on(0, true);
  if (!listener.open()) fail("no port of 127.0.0.1 is free for the ranks to meet");
  const pid_t parent = getpid();
  Place place;
  place.launcher = "this program itself";
  place.ranks = ranks;
  place.addresses = {"127.0.0.1"};
  place.ports = {port_of(listener)};
  place.run = run_name(place.ports[0]);
  const BlockedSignals signals;
  std::fflush(nullptr);
  std::vector<Child> children(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t pid = fork();
    if (pid < 0) {
      tell({children.begin(), children.begin() + rank}, SIGKILL);
      fail("cannot start rank " + std::to_string(rank) + ": " + std::strerror(errno));
    }
    if (pid == 0) {
      die_with(parent);
      signals.restore();
      place.rank = place.local_rank = rank;
      if (rank == 0) {
        place.listener = listener.release();
      } else {
        listener.close();
      }
      be_rank(place, rank_main);
    }
    children[static_cast<std::size_t>(rank)].pid = pid;
  }
  listener.close();
  int interrupted = 0;
  bool ending = false;
  Clock::time_point kill_at{};
  while (any_running(children)) {
    const int signal = signals.next(0.1);
    if (signal == SIGINT || signal == SIGTERM) {
      interrupted = signal;
      tell(children, signal);
    }
    const bool died = reap(children);
    if ((died || interrupted != 0) && !ending) {
      ending = true;
      kill_at = Clock::now() + std::chrono::milliseconds(static_cast<int>(1000 * kGraceSeconds));
    }
    if (ending && Clock::now() >= kill_at) tell(children, SIGKILL);
  }
  return interrupted != 0 ? 128 + interrupted : status_of(children);
}

int ask_child(const std::function<int()>& fn) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  const pid_t parent = getpid();
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    die_with(parent);
    const int answer = fn();
    const bool written = write(ends[1], &answer, sizeof answer) == sizeof answer;
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  int answer = -1;
  if (pid < 0 || read(ends[0], &answer, sizeof answer) != sizeof answer) answer = -1;
  close(ends[0]);
  if (pid > 0) waitpid(pid, nullptr, 0);
  return answer;
}

}  // namespace steploom
