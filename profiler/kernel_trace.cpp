#include "profiler/kernel_trace.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>

#include "profiler/measure_check.h"

namespace steploom {
namespace {

constexpr std::size_t kBufferBytes = 1u << 20;
constexpr std::size_t kAlign = 8;
constexpr CUpti_ActivityKind kTaggingKinds[] = {
    CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION, CUPTI_ACTIVITY_KIND_RUNTIME,
    CUPTI_ACTIVITY_KIND_DRIVER, CUPTI_ACTIVITY_KIND_MEMSET, CUPTI_ACTIVITY_KIND_MEMCPY};

std::mutex mutex;
struct Launched {
  KernelRun run;
  std::uint32_t correlation = 0;  // of the call that launched it
};
std::vector<Launched> runs;                           // under mutex, as the next two
std::map<std::uint32_t, std::uint64_t> tag_of_call;   // by correlation
std::map<std::uint32_t, std::int64_t> issue_of_call;  // likewise
bool tagging = false;
std::int64_t origin = 0;  // of start_trace

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* bytes, std::size_t* most_records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(kAlign, kBufferBytes));
  if (*buffer == nullptr) fail("out of memory for the kernel trace");
  *bytes = kBufferBytes;
  *most_records = 0;
}

std::int64_t since_origin(std::uint64_t ns) {
  return static_cast<std::int64_t>(ns) - origin;
}

// A fill or a copy.
template <class Record>
Launched plain_run(const Record& r) {
  return {{0, false, since_origin(r.start), since_origin(r.end)}, r.correlationId};
}

void take_record(const CUpti_Activity& record) {
  switch (record.kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const auto& k = reinterpret_cast<const CUpti_ActivityKernel10&>(record);
      runs.push_back({{k.gridX, std::strstr(k.name, "ncclDevKernel") != nullptr,
                       since_origin(k.start), since_origin(k.end)},
                      k.correlationId});
      break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET:
      runs.push_back(plain_run(reinterpret_cast<const CUpti_ActivityMemset4&>(record)));
      break;
    case CUPTI_ACTIVITY_KIND_MEMCPY:
      runs.push_back(plain_run(reinterpret_cast<const CUpti_ActivityMemcpy6&>(record)));
      break;
    case CUPTI_ACTIVITY_KIND_RUNTIME:
    case CUPTI_ACTIVITY_KIND_DRIVER: {
      const auto& call = reinterpret_cast<const CUpti_ActivityAPI&>(record);
      issue_of_call.emplace(call.correlationId, since_origin(call.start));
      break;
    }
    case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
      const auto& mark = reinterpret_cast<const CUpti_ActivityExternalCorrelation&>(record);
      tag_of_call.insert_or_assign(mark.correlationId, mark.externalId);
      break;
    }
    default:
      break;
  }
}

// Calls are numbered in order, so one that has no mark of its own is inside the last marked one.
std::uint64_t tag_of(std::uint32_t correlation) {
  const auto after = tag_of_call.upper_bound(correlation);
  return after == tag_of_call.begin() ? 0 : std::prev(after)->second;
}

void CUPTIAPI take_buffer(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t,
                          std::size_t valid) {
  const std::lock_guard lock(mutex);
  CUpti_Activity* record = nullptr;
  while (true) {
    const CUptiResult next = cuptiActivityGetNextRecord(buffer, valid, &record);
    if (next == CUPTI_ERROR_MAX_LIMIT_REACHED) break;
    check(next);
    take_record(*record);
  }
  std::free(buffer);
}

}  // namespace

std::int64_t clock_ns() {
  std::uint64_t now = 0;
  check(cuptiGetTimestamp(&now));
  return static_cast<std::int64_t>(now);
}

void start_trace(std::int64_t origin_ns, TraceTags tags) {
  origin = origin_ns;
  tagging = tags == TraceTags::on;
  check(cuptiActivityRegisterCallbacks(give_buffer, take_buffer));
  check(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
  if (!tagging) return;
  for (const CUpti_ActivityKind kind : kTaggingKinds) check(cuptiActivityEnable(kind));
}

std::vector<KernelRun> take_trace() {
  check(cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED));
  const std::lock_guard lock(mutex);
  std::vector<KernelRun> taken;
  for (Launched& launched : runs) {
    if (tagging) {
      launched.run.tag = tag_of(launched.correlation);
      const auto issue = issue_of_call.find(launched.correlation);
      if (issue != issue_of_call.end()) launched.run.issued_ns = issue->second;
    }
    taken.push_back(launched.run);
  }
  runs.clear();
  tag_of_call.clear();
  issue_of_call.clear();
  std::sort(taken.begin(), taken.end(),
            [](const KernelRun& a, const KernelRun& b) { return a.start_ns < b.start_ns; });
  return taken;
}

void stop_trace() {
  check(cuptiActivityDisable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
  if (tagging) {
    for (const CUpti_ActivityKind kind : kTaggingKinds) check(cuptiActivityDisable(kind));
  }
  take_trace();
  check(cuptiFinalize());
}

void push_tag(std::uint64_t tag) {
  check(cuptiActivityPushExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, tag));
}

void pop_tag() {
  std::uint64_t last = 0;
  check(cuptiActivityPopExternalCorrelationId(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last));
}

std::int64_t trace_clock_ns() {
  return clock_ns() - origin;
}

}  // namespace steploom
