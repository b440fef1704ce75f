// What launches, waits between streams and copies cost.
#include <chrono>
#include <cstring>
#include <memory>

#include "profiler/buffer.h"
#include "profiler/events.cuh"
#include "profiler/measure.h"

namespace steploom {
namespace {

constexpr int kBatch = 200;    // launches between two waits: below what a stream queues
constexpr int kSamples = 100;  // the first half is dropped

__global__ void nothing() {}

void launch_nothing(Stream stream) {
  nothing<<<1, 32, 0, stream>>>();
}

double microseconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

// Host time of one of `batch` acts that only enqueue.
template <class Act>
MeasuredOther host_time(const char* what, Stream stream, const Act& act) {
  std::vector<double> samples;
  for (int s = 0; s < kSamples; ++s) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kBatch; ++i) act();
    const double us = microseconds(std::chrono::steady_clock::now() - start) / kBatch;
    check_launch(what);
    check(cudaStreamSynchronize(stream), what);
    if (s >= kSamples / 2) samples.push_back(us);
  }
  return {what, 0, stats_of(samples), "host time"};
}

// Device time of one of `count` parts of what `act` enqueues, which must end on `stream`.
template <class Act>
MeasuredOther device_time(const char* what, Stream stream, int count, const Act& act) {
  Event start;
  Event end;
  std::vector<double> samples;
  for (int s = 0; s < kSamples; ++s) {
    start.record(stream);
    act();
    end.record(stream);
    check_launch(what);
    end.wait();
    if (s >= kSamples / 2) samples.push_back(end.microseconds_since(start) / count);
  }
  return {what, 0, stats_of(samples), "device time"};
}

class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t bytes) {
    check(cudaMallocHost(&data_, bytes), "cudaMallocHost");
  }
  ~PinnedBuffer() { cudaFreeHost(data_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

}  // namespace

std::vector<MeasuredOther> measure_launches(Stream stream) {
  std::vector<MeasuredOther> out;
  MeasuringStream other;
  const auto batch = [&] {
    for (int i = 0; i < kBatch; ++i) launch_nothing(stream);
  };
  const Graph one(stream, [&] { launch_nothing(stream); });
  const Graph many(stream, batch);
  std::vector<std::unique_ptr<Event>> events;
  for (int i = 0; i < kBatch; ++i) events.push_back(std::make_unique<Event>());
  out.push_back(host_time("launch_kernel", stream, [&] { launch_nothing(stream); }));
  out.push_back(host_time("launch_graph_of_one", stream, [&] { one.launch(stream); }));
  out.push_back(host_time("launch_graph_of_200", stream, [&] { many.launch(stream); }));
  Event event;
  out.push_back(host_time("event_record_and_wait", stream, [&] {
    event.record(other.get());
    check(cudaStreamWaitEvent(stream, event.get(), 0), "cudaStreamWaitEvent");
  }));
  out.push_back(device_time("empty_kernel_in_stream", stream, kBatch, batch));
  out.push_back(device_time("empty_kernel_in_graph", stream, kBatch, [&] { many.launch(stream); }));
  // A chain that changes streams after every kernel: the wait's cost is what a hop takes beyond an
  // empty kernel in one stream.
  const auto chain = [&] {
    for (int i = 0; i < kBatch; ++i) {
      const Stream from = i % 2 == 0 ? stream : other.get();
      const Stream to = i % 2 == 0 ? other.get() : stream;
      launch_nothing(from);
      events[static_cast<std::size_t>(i)]->record(from);
      check(cudaStreamWaitEvent(to, events[static_cast<std::size_t>(i)]->get(), 0),
            "cudaStreamWaitEvent");
    }
  };
  out.push_back(device_time("empty_kernel_and_event_wait_in_streams", stream, kBatch, chain));
  const Graph chained(stream, chain);
  out.push_back(device_time("empty_kernel_and_event_wait_in_graph", stream, kBatch,
                            [&] { chained.launch(stream); }));
  return out;
}

std::vector<MeasuredOther> measure_copies(const Nvml& nvml, Stream stream) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  const DeviceBuffer from(kMost);
  const DeviceBuffer to(kMost);
  const PinnedBuffer host(static_cast<std::size_t>(kMost));
  fill_random(static_cast<float*>(from.data()), kMost / 4, 1, 1, stream);
  check(cudaStreamSynchronize(stream), "fill");
  copy_to_host(host.get(), from.data(), kMost);
  struct Way {
    const char* what;
    cudaMemcpyKind kind;
    void* to;
    const void* from;
  };
  const Way ways[] = {
      {"copy_host_to_device", cudaMemcpyHostToDevice, to.data(), host.get()},
      {"copy_device_to_host", cudaMemcpyDeviceToHost, host.get(), from.data()},
      {"copy_device_to_device", cudaMemcpyDeviceToDevice, to.data(), from.data()},
  };
  std::vector<MeasuredOther> out;
  for (const Way& way : ways) {
    check(cudaMemset(to.data(), 0xFF, static_cast<std::size_t>(kMost)), "poison");
    for (std::int64_t bytes = 4096; bytes <= kMost; bytes *= 4) {
      // Through the whole buffer in turn, so that small copies are not served by the L2 cache.
      const std::int64_t places = kMost / bytes;
      const int shots = static_cast<int>(std::min<std::int64_t>(places, 64));
      Event start;
      Event end;
      std::vector<double> samples;
      std::int64_t place = 0;
      const auto batch = [&] {
        for (int i = 0; i < shots; ++i, place = (place + 1) % places) {
          check(cudaMemcpyAsync(static_cast<char*>(way.to) + place * bytes,
                                static_cast<const char*>(way.from) + place * bytes,
                                static_cast<std::size_t>(bytes), way.kind, stream),
                way.what);
        }
      };
      const int repeats = bytes * shots > (std::int64_t{1} << 28) ? 6 : 40;
      for (int s = 0; s < repeats; ++s) {
        start.record(stream);
        batch();
        end.record(stream);
        end.wait();
        if (s >= repeats / 2) samples.push_back(end.microseconds_since(start) / shots);
      }
      MeasuredOther point{way.what, bytes, stats_of(samples), "pinned host memory, one stream"};
      if (way.kind == cudaMemcpyDeviceToDevice) point.note = "one stream";
      batch();
      point.stats.sm_mhz = nvml.sm_mhz();
      check(cudaStreamSynchronize(stream), way.what);
      out.push_back(std::move(point));
    }
    const auto got = to_host(
        static_cast<const char*>(way.kind == cudaMemcpyDeviceToHost ? from.data() : to.data()),
        1 << 20);
    if (std::memcmp(got.data(), host.get(), got.size()) != 0) {
      throw DeviceError(std::string(way.what) + " did not copy");
    }
  }
  return out;
}

}  // namespace steploom
