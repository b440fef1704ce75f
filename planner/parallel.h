// Running independent items on several threads, each thread with state of its own.
//
// Which thread does which item is not fixed; results must not depend on it. Exceptions of the items
// are rethrown, the one of the lowest item first.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace steploom {

// Calls item(state, i) for i in 0..n-1; `states` has one entry a thread.
template <class State, class Item>
void for_each_parallel(std::vector<State>& states, std::size_t n, const Item& item) {
  std::atomic<std::size_t> next{0};
  std::vector<std::exception_ptr> faults(n);
  const auto work = [&](State& state) {
    for (std::size_t i = next++; i < n; i = next++) {
      try {
        item(state, i);
      } catch (...) {
        faults[i] = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    const std::size_t count = std::min(states.size(), n);
    for (std::size_t t = 1; t < count; ++t) threads.emplace_back(work, std::ref(states[t]));
    if (n > 0) work(states.front());
  }
  for (const std::exception_ptr& f : faults)
    if (f) std::rethrow_exception(f);
}

}  // namespace steploom
