#include "profiler/crew.h"

#include <algorithm>

#include "profiler/measure_fail.h"

namespace steploom {

Crew::Crew(int ranks, double patience_seconds, double budget_seconds, std::string kept_file)
    : ranks_(ranks),
      patience_(patience_seconds),
      budget_(budget_seconds),
      kept_file_(std::move(kept_file)),
      values_(static_cast<std::size_t>(ranks)),
      barrier_(ranks),
      watchdog_([this](const std::stop_token& stop) { watch(stop); }) {}

double Crew::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

double Crew::most(int rank, double value) {
  values_[static_cast<std::size_t>(rank)] = value;
  meet();
  const double largest = *std::max_element(values_.begin(), values_.end());
  meet();  // nobody writes the next value before all have read this one
  return largest;
}

void Crew::doing(const std::string& what) {
  const std::lock_guard lock(mutex_);
  what_ = what;
}

void Crew::beat() {
  last_beat_ = seconds();
}

void Crew::watch(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (seconds() - last_beat_ < patience_) continue;
    const std::lock_guard lock(mutex_);
    fail("a rank has not come back for " + std::to_string(static_cast<int>(patience_)) +
         " s while " + what_ + "; what was measured before is in " + kept_file_);
  }
}

}  // namespace steploom
