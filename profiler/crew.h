// Crew: the ranks of a measurement, one thread a GPU, that walk through the same program in step.
//
// All decisions (how many shots, what to skip) are taken on values agreed through most(), so that
// every rank takes the same branch and no rank waits alone in a collective. A watchdog ends the
// process with one message (exit status 1) if no rank has met the others for `patience` seconds:
// a rank that hangs or died never leaves the rest waiting, and the lines written so far are kept.
#pragma once

#include <atomic>
#include <barrier>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace steploom {

class Crew {
 public:
  Crew(int ranks, double patience_seconds, double budget_seconds, std::string kept_file);

  int ranks() const { return ranks_; }

  // Waits for all ranks; the largest of their values.
  double most(int rank, double value);
  void meet() {
    barrier_.arrive_and_wait();
    beat();
  }

  // What is being done, for the watchdog's message. Any rank may say it.
  void doing(const std::string& what);

  double seconds() const;                                                 // since the start
  bool out_of_time(int rank) { return most(rank, seconds()) > budget_; }  // agreed

 private:
  void beat();
  void watch(const std::stop_token& stop);

  int ranks_;
  double patience_, budget_;
  std::string kept_file_;
  std::vector<double> values_;
  std::barrier<> barrier_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::atomic<double> last_beat_{0};
  std::mutex mutex_;
  std::string what_ = "setting up";
  std::jthread watchdog_;  // last: it uses the others
};

}  // namespace steploom
