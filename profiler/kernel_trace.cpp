#include "profiler/kernel_trace.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "profiler/measure_check.h"

namespace steploom {
namespace {

constexpr std::size_t kBufferBytes = 1u << 20;
constexpr std::size_t kAlign = 8;

std::mutex mutex;
std::vector<KernelRun> runs;  // under mutex
std::int64_t origin = 0;      // of start_trace

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* bytes, std::size_t* most_records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(kAlign, kBufferBytes));
  if (*buffer == nullptr) fail("out of memory for the kernel trace");
  *bytes = kBufferBytes;
  *most_records = 0;
}

void CUPTIAPI take_buffer(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t,
                          std::size_t valid) {
  const std::lock_guard lock(mutex);
  CUpti_Activity* record = nullptr;
  while (true) {
    const CUptiResult next = cuptiActivityGetNextRecord(buffer, valid, &record);
    if (next == CUPTI_ERROR_MAX_LIMIT_REACHED) break;
    check(next);
    if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
    const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel10*>(record);
    runs.push_back({kernel->gridX, std::strstr(kernel->name, "ncclDevKernel") != nullptr,
                    static_cast<std::int64_t>(kernel->start) - origin,
                    static_cast<std::int64_t>(kernel->end) - origin});
  }
  std::free(buffer);
}

}  // namespace

std::int64_t clock_ns() {
  std::uint64_t now = 0;
  check(cuptiGetTimestamp(&now));
  return static_cast<std::int64_t>(now);
}

void start_trace(std::int64_t origin_ns) {
  origin = origin_ns;
  check(cuptiActivityRegisterCallbacks(give_buffer, take_buffer));
  check(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
}

std::vector<KernelRun> take_trace() {
  check(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED));
  const std::lock_guard lock(mutex);
  std::vector<KernelRun> taken;
  taken.swap(runs);
  std::sort(taken.begin(), taken.end(),
            [](const KernelRun& a, const KernelRun& b) { return a.start_ns < b.start_ns; });
  return taken;
}

void stop_trace() {
  check(cuptiActivityDisable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
  take_trace();
  check(cuptiFinalize());
}

std::int64_t trace_clock_ns() {
  return clock_ns() - origin;
}

}  // namespace steploom
