// Peers: the processes of one run, one a rank, that walk through the same program in step.
//
// All decisions (how many shots, what to skip) are taken on values agreed through most() or
// share(), so that every rank takes the same branch and no rank waits alone in a collective. share,
// most, gather and meet are rounds: all ranks take the same ones in the same order, and none leaves
// a round before all have come to it. Bytes travel over plain TCP by way of rank 0; a process alone
// has no socket.
//
// No wait is longer than the patience: if a rank is gone, fails (measure_fail.h), or no round has
// ended for 4/5 of the patience, all ranks end with exit status 1, and one message says which rank
// it was and what it was doing. Rank 0 says it; if rank 0 itself is gone or hangs, rank 1 does. A
// thread watches, so this holds while the ranks are in their kernels too. The destructor is a round
// as well: a process that ends before it counts as gone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "profiler/place.h"
#include "profiler/rendezvous.h"

namespace steploom {

class Peers {
 public:
  // Waits for all ranks. One at a time in a process.
  static std::unique_ptr<Peers> join(const Place& place, double patience_seconds);
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  int rank() const { return place_.rank; }
  int ranks() const { return place_.ranks; }
  int local_rank() const { return place_.local_rank; }
  bool first() const { return rank() == 0; }
  double seconds() const;  // since all ranks had come

  std::string share(std::string bytes);                // rank 0's, at every rank
  double most(double value);                           // the largest, at every rank
  std::vector<std::string> gather(std::string bytes);  // all ranks' at rank 0, elsewhere none
  void meet();

  // What this rank does now, for the message.
  void doing(const std::string& what);
  // The file that keeps what was written so far, for the message.
  void keeping(const std::string& file);

 private:
  enum class Op : std::uint32_t { share, most, gather, meet, leave };
  struct Member {
    Link link;  // none to itself
    std::string doing = "setting up";
    bool arrived = false;  // at the round that is under way
    bool left = false;
    Op op = Op::meet;
    std::string part;
  };

  Peers(const Place& place, double patience_seconds);
  std::string turn(Op op, std::string part, std::vector<std::string>* parts = nullptr);
  void arrive(std::size_t rank, Op op, std::string part);
  void finish_round(std::string reply);
  std::string reply_to(Op op) const;
  void watch(const std::stop_token& stop);
  void read_all();
  void take(std::size_t from, Frame frame);
  void check_patience();
  [[noreturn]] void lost(std::size_t from);
  [[noreturn]] void end_run(const std::string& message);
  void failed(const std::string& message);
  std::string missing_text(double waited) const;

  Place place_;
  double patience_;
  Clock::time_point start_ = Clock::now();
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::vector<Member> members_;  // at rank 0 all, by rank; elsewhere rank 0 alone
  std::uint32_t round_ = 0;
  Clock::time_point met_ = Clock::now();  // the last round's end
  std::string reply_;
  std::vector<std::string> parts_;
  std::string doing_ = "setting up";
  std::string kept_;
  std::mutex sending_;  // elsewhere than at rank 0: one frame at a time
  std::atomic<bool> failing_{false}, rank_zero_gone_{false};
  int wake_[2] = {-1, -1};
  std::jthread watcher_;  // last: it uses the others
};

}  // namespace steploom
