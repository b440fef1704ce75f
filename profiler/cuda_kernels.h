// The `cuda` KernelSet: one GPU, one process, the profiler's kernels, cuBLASLt, cuDNN and NCCL.
//
// A CUDA stream a stream of the Execution, with its priority; an event a cross-stream order. Steps
// follow each other on the device: begin_step() makes every stream wait for all that was launched
// before. prepare() runs every call once on zeroed memory, kernels before collectives, so that
// nothing is loaded, planned or connected while a step runs; it leaves all memory poisoned, so
// parameters are written after it. A captured step is a CUDA graph that replays with the same
// memory; the step's number reaches Adam through device memory.
//
// All ranks call prepare() together. Times are in microseconds, by CUDA events.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "profiler/buffer.h"
#include "profiler/communicators.h"
#include "profiler/execution.h"
#include "profiler/kernel_set.h"
#include "profiler/peers.h"
#include "profiler/stream_plans.h"

struct CUevent_st;
struct CUgraphExec_st;

namespace steploom {

struct CudaOptions {
  PlanChoices plans;
  double patience_seconds = 120;  // the longest wait for launches to end
  bool connect = true;            // false: no communicators, and collectives must not be launched
};

class CudaKernels final : public KernelSet {
 public:
  explicit CudaKernels(Peers& peers, const CudaOptions& options = {});
  ~CudaKernels() override;

  std::uint32_t allocate(Bytes bytes) override;
  void write(const TensorRef& to, std::span<const double> values) override;
  std::vector<double> read(const TensorRef& from) override;
  void write_initial(const TensorRef& to, const ParameterTensor& p) override;
  void fill(const TensorRef& to, double value) override;
  void copy(const TensorRef& to, const TensorRef& from) override;
  void prepare(const Execution& execution) override;
  void begin_step(std::int64_t number) override;
  void wait_for_all() override;
  void record(std::uint32_t event, int stream) override;
  void wait(std::uint32_t event, int stream) override;
  void poison(const TensorRef& tensor, int stream) override;

  void launch(const Linear& call, int stream) override;
  void launch(const ExpertLinear& call, int stream) override;
  void launch(const Attention& call, int stream) override;
  void launch(const AttentionBackward& call, int stream) override;
  void launch(const Rotary& call, int stream) override;
  void launch(const Norm& call, int stream) override;
  void launch(const NormBackward& call, int stream) override;
  void launch(const Activation& call, int stream) override;
  void launch(const ActivationBackward& call, int stream) override;
  void launch(const Add& call, int stream) override;
  void launch(const Router& call, int stream) override;
  void launch(const RouterBackward& call, int stream) override;
  void launch(const Permute& call, int stream) override;
  void launch(const PermuteBackward& call, int stream) override;
  void launch(const Unpermute& call, int stream) override;
  void launch(const UnpermuteBackward& call, int stream) override;
  void launch(const SortRows& call, int stream) override;
  void launch(const Embedding& call, int stream) override;
  void launch(const EmbeddingBackward& call, int stream) override;
  void launch(const CrossEntropy& call, int stream) override;
  void launch(const CrossEntropySlice& call, int stream) override;
  void launch(const CrossEntropySums& call, int stream) override;
  void launch(const CrossEntropyEnd& call, int stream) override;
  void launch(const CrossEntropyBackward& call, int stream) override;
  void launch(const SumOfSquares& call, int stream) override;
  void launch(const Adam& call, int stream) override;
  void launch(const ZeroFill& call, int stream) override;
  void launch(const Collective& call, int stream) override;

  // Nothing launched later on the stream starts for so long.
  void delay(double ms, int stream);

  // A moment at which all that was launched before has ended, and the time between two of them.
  std::size_t mark();
  double microseconds(std::size_t from, std::size_t to);  // waits for `to`
  void forget_marks();

  // What `walk` launches, as a graph in place of launches; then replays of it. One at a time.
  void capture(const std::function<void()>& walk);
  void replay();

  // Device memory that this process took: all, and of it what is not in the Execution's memories.
  Bytes workspace_bytes() const;
  Bytes communicator_bytes() const { return communicator_bytes_; }

 private:
  struct StreamState {
    Stream stream = nullptr;
    CUevent_st* tail = nullptr;  // all that was launched before
    StreamPlans plans;
  };

  void* address(const TensorRef& t) const;
  template <class T>
  T* at(const TensorRef& t, ElementType type) const;
  Bf16* values(const TensorRef& t) const { return at<Bf16>(t, ElementType::bf16); }
  float* floats(const TensorRef& t) const { return at<float>(t, ElementType::fp32); }
  std::int32_t* words(const TensorRef& t) const { return at<std::int32_t>(t, ElementType::int32); }
  Stream on(int stream) const { return streams_[static_cast<std::size_t>(stream)].stream; }
  const StreamPlans& plans(int stream) const {
    return streams_[static_cast<std::size_t>(stream)].plans;
  }
  float* scratch(int stream) const { return static_cast<float*>(plans(stream).scratch()); }
  void join();  // stream 0 waits for all others
  void fork();  // all others wait for stream 0
  void fill_all(int byte);

  Peers& peers_;
  CudaOptions options_;
  std::vector<DeviceBuffer> memories_;
  std::vector<StreamState> streams_;
  std::vector<CUevent_st*> events_;
  std::vector<CUevent_st*> marks_;
  std::size_t marks_used_ = 0;
  std::unique_ptr<Communicators> communicators_;
  Bytes communicator_bytes_ = 0;
  DeviceBuffer corrections_;
  float beta1_ = 0, beta2_ = 0;  // of the Execution's Adam
  CUgraphExec_st* graph_ = nullptr;
};

// Of the current device, in bytes.
struct DeviceMemory {
  Bytes free = 0;
  Bytes total = 0;
};
DeviceMemory device_memory();

int gpu_count();              // 0 where there is none, or no driver
void take_gpu(Peers& peers);  // makes this rank's GPU current; throws if two ranks would share one

}  // namespace steploom
