#include "profiler/cuda_kernels.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <thread>

#include "profiler/device_check.cuh"
#include "profiler/kernels.h"
#include "profiler/step_data.h"

namespace steploom {
namespace {

constexpr std::uintptr_t kAlignment = 16;  // of all tensors, for vector loads
constexpr std::int32_t kPoisonWord = -(1 << 30);
constexpr std::int64_t kChunk = std::int64_t{1} << 22;  // elements converted at a time

cudaEvent_t new_event(unsigned flags) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, flags), "cudaEventCreate");
  return event;
}

Stream new_stream(int priority) {
  int least = 0;
  int greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "stream priorities");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                     std::clamp(priority, greatest, least)),
        "cudaStreamCreate");
  return stream;
}

// Converts chunk by chunk on the way.
template <class T, class Convert>
void write_as(void* to, std::span<const double> values, const Convert& convert) {
  std::vector<T> chunk;
  for (std::size_t at = 0; at < values.size(); at += static_cast<std::size_t>(kChunk)) {
    const std::size_t count = std::min(values.size() - at, static_cast<std::size_t>(kChunk));
    chunk.resize(count);
    std::transform(values.begin() + static_cast<std::ptrdiff_t>(at),
                   values.begin() + static_cast<std::ptrdiff_t>(at + count), chunk.begin(),
                   convert);
    copy_to_device(static_cast<T*>(to) + at, chunk.data(),
                   static_cast<std::int64_t>(count * sizeof(T)));
  }
}

template <class T, class Convert>
std::vector<double> read_as(const void* from, std::int64_t count, const Convert& convert) {
  std::vector<double> out(static_cast<std::size_t>(count));
  for (std::int64_t at = 0; at < count; at += kChunk) {
    const std::vector<T> chunk =
        to_host(static_cast<const T*>(from) + at, std::min(count - at, kChunk));
    std::transform(chunk.begin(), chunk.end(), out.begin() + at, convert);
  }
  return out;
}

}  // namespace

CudaKernels::CudaKernels(Peers& peers, const CudaOptions& options)
    : peers_(peers),
      options_(options),
      corrections_(static_cast<std::int64_t>(sizeof(kernels::AdamCorrections))) {}

CudaKernels::~CudaKernels() {
  cudaDeviceSynchronize();
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  communicators_.reset();
  for (cudaEvent_t e : events_) cudaEventDestroy(e);
  for (cudaEvent_t e : marks_) cudaEventDestroy(e);
  for (const StreamState& s : streams_) {
    cudaEventDestroy(s.tail);
    cudaStreamDestroy(s.stream);
  }
}

std::uint32_t CudaKernels::allocate(Bytes bytes) {
  memories_.emplace_back(bytes);
  if (bytes > 0) steploom::poison(memories_.back().data(), bytes, nullptr);
  return static_cast<std::uint32_t>(memories_.size() - 1);
}

void* CudaKernels::address(const TensorRef& t) const {
  const DeviceBuffer& memory = memories_.at(t.memory);
  if (t.offset < 0 || t.offset + t.bytes() > memory.bytes()) {
    throw DeviceError("a tensor outside its memory");
  }
  return static_cast<char*>(memory.data()) + t.offset;
}

template <class T>
T* CudaKernels::at(const TensorRef& t, ElementType type) const {
  if (!t) return nullptr;
  if (t.type != type) throw DeviceError("a tensor of another type than its kernel's");
  void* address = this->address(t);
  if (reinterpret_cast<std::uintptr_t>(address) % kAlignment != 0) {
    throw DeviceError("a tensor that does not begin at a multiple of 16 bytes");
  }
  return static_cast<T*>(address);
}
template Bf16* CudaKernels::at(const TensorRef&, ElementType) const;
template float* CudaKernels::at(const TensorRef&, ElementType) const;
template std::int32_t* CudaKernels::at(const TensorRef&, ElementType) const;

void CudaKernels::write(const TensorRef& to, std::span<const double> values) {
  if (static_cast<std::int64_t>(values.size()) != to.elements()) {
    throw DeviceError("as many values as elements are written");
  }
  wait_for_all();
  switch (to.type) {
    case ElementType::bf16:
      return write_as<Bf16>(address(to), values,
                            [](double x) { return to_bf16(static_cast<float>(x)); });
    case ElementType::fp32:
      return write_as<float>(address(to), values, [](double x) { return static_cast<float>(x); });
    case ElementType::int32:
      return write_as<std::int32_t>(address(to), values,
                                    [](double x) { return static_cast<std::int32_t>(x); });
  }
}

std::vector<double> CudaKernels::read(const TensorRef& from) {
  wait_for_all();
  switch (from.type) {
    case ElementType::bf16:
      return read_as<Bf16>(address(from), from.elements(),
                           [](Bf16 x) { return static_cast<double>(to_float(x)); });
    case ElementType::fp32:
      return read_as<float>(address(from), from.elements(),
                            [](float x) { return static_cast<double>(x); });
    case ElementType::int32:
      return read_as<std::int32_t>(address(from), from.elements(),
                                   [](std::int32_t x) { return static_cast<double>(x); });
  }
  throw DeviceError("no such type");
}

void CudaKernels::write_initial(const TensorRef& to, const ParameterTensor& p) {
  if (to.elements() != p.elements())
    throw DeviceError("a parameter of another size than its list's");
  const InitialValues values{initial_seed(p), p.mean, p.deviation};
  for (const ParameterTensor::Run& run : p.runs) {
    const ShardRows rows{run.count, p.width, run.whole_first * p.whole_width + p.first_column,
                         p.whole_width};
    const TensorRef part = to.shaped(p.rows, p.width).slice(run.first, run.count);
    fill_initial(this->values(part), rows, values, nullptr);
  }
  wait_for_device();
}

void CudaKernels::fill(const TensorRef& to, double value) {
  if (value == 0) {
    fill_zero(address(to), to.bytes(), nullptr);
    wait_for_device();
  } else {
    write(to, std::vector<double>(static_cast<std::size_t>(to.elements()), value));
  }
}

void CudaKernels::copy(const TensorRef& to, const TensorRef& from) {
  if (to.elements() != from.elements()) throw DeviceError("a copy of another size");
  widen(floats(to), values(from), from.elements(), nullptr);
  wait_for_device();
}

void CudaKernels::fill_all(int byte) {
  for (const DeviceBuffer& m : memories_) {
    if (m.bytes() == 0) continue;
    check(cudaMemset(m.data(), byte, static_cast<std::size_t>(m.bytes())), "cudaMemset");
  }
  wait_for_device();
}

void CudaKernels::prepare(const Execution& execution) {
  peers_.doing("planning kernels");
  for (const StreamSpec& s : execution.streams) {
    StreamState& state = streams_.emplace_back();
    state.stream = new_stream(s.priority);
    state.tail = new_event(cudaEventDisableTiming);
  }
  if (streams_.empty()) throw DeviceError("an execution without streams");
  for (std::uint32_t e = 0; e < execution.events; ++e) {
    events_.push_back(new_event(cudaEventDisableTiming));
  }
  for (const Call& call : execution.calls) {
    streams_.at(static_cast<std::size_t>(call.stream)).plans.plan(call.kernel, options_.plans);
    if (const auto* adam = std::get_if<Adam>(&call.kernel)) {
      beta1_ = static_cast<float>(adam->beta1);
      beta2_ = static_cast<float>(adam->beta2);
    }
  }
  for (StreamState& s : streams_) s.plans.allocate();
  fill_all(0);
  begin_step(1);
  for (const Call& call : execution.calls) {
    if (!std::holds_alternative<Collective>(call.kernel)) {
      steploom::launch(*this, call.kernel, call.stream);
    }
  }
  wait_for_all();
  if (options_.connect) {
    fill_all(0);
    const Bytes before = device_memory().free;
    communicators_ = std::make_unique<Communicators>(peers_, execution.communicators);
    communicators_->warm_up(
        peers_, execution.calls, [this](const TensorRef& t) { return address(t); }, on(0));
    wait_for_all();
    communicator_bytes_ = before - device_memory().free;
  }
  fill_all(0xFF);
}

void CudaKernels::join() {
  for (std::size_t s = 1; s < streams_.size(); ++s) {
    check(cudaEventRecord(streams_[s].tail, streams_[s].stream), "cudaEventRecord");
    check(cudaStreamWaitEvent(streams_[0].stream, streams_[s].tail, 0), "cudaStreamWaitEvent");
  }
}

void CudaKernels::fork() {
  if (streams_.size() == 1) return;
  check(cudaEventRecord(streams_[0].tail, streams_[0].stream), "cudaEventRecord");
  for (std::size_t s = 1; s < streams_.size(); ++s) {
    check(cudaStreamWaitEvent(streams_[s].stream, streams_[0].tail, 0), "cudaStreamWaitEvent");
  }
}

void CudaKernels::begin_step(std::int64_t number) {
  join();
  kernels::set_corrections(static_cast<kernels::AdamCorrections*>(corrections_.data()),
                           kernels::adam_corrections(beta1_, beta2_, number), on(0));
  fork();
}

void CudaKernels::wait_for_all() {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kHealthEvery(100);
  const Clock::time_point start = Clock::now();
  Clock::time_point looked = start;
  for (const StreamState& s : streams_) {
    while (true) {
      const cudaError_t state = cudaStreamQuery(s.stream);
      if (state == cudaSuccess) break;
      if (state != cudaErrorNotReady) check(state, "the step");
      const Clock::time_point now = Clock::now();
      if (now - looked > kHealthEvery) {
        if (communicators_) communicators_->check_health();
        looked = now;
      }
      const double waited = std::chrono::duration<double>(now - start).count();
      if (waited > options_.patience_seconds) {
        throw DeviceError("the device has not ended its work within " +
                          std::to_string(static_cast<int>(waited)) + " s");
      }
      std::this_thread::sleep_for(std::chrono::microseconds(waited < 1e-3 ? 5 : 50));
    }
  }
  if (streams_.empty()) wait_for_device();
}

void CudaKernels::record(std::uint32_t event, int stream) {
  check(cudaEventRecord(events_[event], on(stream)), "cudaEventRecord");
}

void CudaKernels::wait(std::uint32_t event, int stream) {
  check(cudaStreamWaitEvent(on(stream), events_[event], 0), "cudaStreamWaitEvent");
}

void CudaKernels::poison(const TensorRef& t, int stream) {
  if (t.type == ElementType::int32) {
    fill_words(words(t), kPoisonWord, t.elements(), on(stream));
  } else {
    steploom::poison(address(t), t.bytes(), on(stream));
  }
}

void CudaKernels::delay(double ms, int stream) {
  kernels::spin(ms, on(stream));
}

std::size_t CudaKernels::mark() {
  join();
  if (marks_used_ == marks_.size()) marks_.push_back(new_event(cudaEventDefault));
  check(cudaEventRecord(marks_[marks_used_], on(0)), "cudaEventRecord");
  return marks_used_++;
}

double CudaKernels::microseconds(std::size_t from, std::size_t to) {
  wait_for_all();
  float ms = 0;
  check(cudaEventElapsedTime(&ms, marks_[from], marks_[to]), "cudaEventElapsedTime");
  return static_cast<double>(ms) * 1e3;
}

void CudaKernels::forget_marks() {
  marks_used_ = 0;
}

void CudaKernels::capture(const std::function<void()>& walk) {
  wait_for_all();
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  graph_ = nullptr;
  check(cudaStreamBeginCapture(on(0), cudaStreamCaptureModeThreadLocal), "begin capture");
  cudaGraph_t graph = nullptr;
  try {
    fork();
    walk();
    join();
  } catch (...) {
    cudaStreamEndCapture(on(0), &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // the walk's fault is the one to report
    throw;
  }
  check(cudaStreamEndCapture(on(0), &graph), "end capture");
  const cudaError_t code = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check(code, "cudaGraphInstantiate");
  check(cudaGraphUpload(graph_, on(0)), "cudaGraphUpload");
}

void CudaKernels::replay() {
  check(cudaGraphLaunch(graph_, on(0)), "cudaGraphLaunch");
}

Bytes CudaKernels::workspace_bytes() const {
  Bytes sum = corrections_.bytes();
  for (const StreamState& s : streams_) sum += s.plans.bytes();
  return sum;
}

DeviceMemory device_memory() {
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {static_cast<Bytes>(free), static_cast<Bytes>(total)};
}

int gpu_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

void take_gpu(Peers& peers) {
  peers.doing("taking a GPU");
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  // A launcher may show each rank a GPU of its own.
  const int device = count == 1 ? 0 : peers.local_rank();
  if (device >= count) {
    throw DeviceError("the local rank is " + std::to_string(device) +
                      ", and this process sees GPUs: " + std::to_string(count));
  }
  check(cudaSetDevice(device), "cudaSetDevice");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const std::string uuid(properties.uuid.bytes, sizeof properties.uuid.bytes);
  std::map<std::string, std::size_t> owners;
  const std::vector<std::string> all = peers.gather(uuid + host);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const auto [owner, is_new] = owners.emplace(all[rank], rank);
    if (!is_new) {
      throw DeviceError("ranks " + std::to_string(owner->second) + " and " + std::to_string(rank) +
                        " have the same GPU");
    }
  }
}

}  // namespace steploom
