#include "profiler/measure_fail.h"

#include <errno.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <thread>

namespace steploom {
namespace {

std::mutex mutex;
std::function<void(const std::string&)> handed_to;  // under mutex

}  // namespace

void say_once(const std::string& message) {
  static std::atomic<bool> said{false};
  if (said.exchange(true)) {
    std::this_thread::sleep_for(std::chrono::seconds(5));
    _exit(1);
  }
  std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, message.c_str());
  std::fflush(stderr);
}

void say_and_end(const std::string& message) {
  say_once(message);
  _exit(1);
}

void fail(const std::string& message) {
  std::function<void(const std::string&)> handler;
  {
    const std::lock_guard lock(mutex);
    handler = handed_to;
  }
  if (handler) handler(message);
  say_and_end(message);
}

void on_fail(std::function<void(const std::string&)> handler) {
  const std::lock_guard lock(mutex);
  handed_to = std::move(handler);
}

}  // namespace steploom
