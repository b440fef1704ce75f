// A swappable set of kernels for one rank: memory, streams, events, and one virtual function a
// kernel.
//
// Binding turns a Program into calls (execution.h); a KernelSet runs them. There are two:
// `reference` (float64 on the CPU, all ranks in one process, reference_kernels.h) and `cuda`. Every
// launch is asynchronous on a stream, in the order of the calls; a collective meets the other
// members' calls on the same communicator, the k-th of each. Faults are thrown, as steploom::Error
// for what a user can mend and as DeviceError for what the device reports.
//
// Set-up order: allocate() for every memory of the Execution, in its order, so that memory numbers
// agree; prepare(); then, any number of times, launches. A backend may choose algorithms, make
// addresses of grouped products and communicators in prepare(), which sees every call beforehand.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/parameter_list.h"
#include "profiler/kernel_calls.h"

namespace steploom {

struct Execution;  // execution.h

class KernelSet {
 public:
  virtual ~KernelSet() = default;

  // Memories are numbered from 0 in the order of the calls. A fresh one holds NaNs.
  virtual std::uint32_t allocate(Bytes bytes) = 0;

  // Blocking copies, converted from and to the tensor's type; row-major. They wait for all
  // launches.
  virtual void write(const TensorRef& to, std::span<const double> values) = 0;
  virtual std::vector<double> read(const TensorRef& from) = 0;
  // What write() would with initial_values(p) (step_data.h), with one value everywhere, or with
  // what read() gives of bf16 for fp32, but as fast as the backend can: models are large.
  virtual void write_initial(const TensorRef& to, const ParameterTensor& p) = 0;
  virtual void fill(const TensorRef& to, double value) = 0;
  virtual void copy(const TensorRef& to, const TensorRef& from) = 0;

  // Once, before the first launch: streams, events, communicators, plans.
  virtual void prepare(const Execution& execution) = 0;
  // Before each step. `number` counts from 1 (Adam's bias correction).
  virtual void begin_step(std::int64_t number) = 0;
  virtual void wait_for_all() = 0;  // until every launch has ended

  // Order between streams of this rank: `stream` goes on when the recorded event has happened.
  virtual void record(std::uint32_t event, int stream) = 0;
  virtual void wait(std::uint32_t event, int stream) = 0;

  // Fills with NaNs (int32: with −2^30), on a stream: what is read before it is written shows.
  virtual void poison(const TensorRef& tensor, int stream) = 0;

  virtual void launch(const Linear& call, int stream) = 0;
  virtual void launch(const ExpertLinear& call, int stream) = 0;
  virtual void launch(const Attention& call, int stream) = 0;
  virtual void launch(const AttentionBackward& call, int stream) = 0;
  virtual void launch(const Rotary& call, int stream) = 0;
  virtual void launch(const Norm& call, int stream) = 0;
  virtual void launch(const NormBackward& call, int stream) = 0;
  virtual void launch(const Activation& call, int stream) = 0;
  virtual void launch(const ActivationBackward& call, int stream) = 0;
  virtual void launch(const Add& call, int stream) = 0;
  virtual void launch(const Router& call, int stream) = 0;
  virtual void launch(const RouterBackward& call, int stream) = 0;
  virtual void launch(const Permute& call, int stream) = 0;
  virtual void launch(const PermuteBackward& call, int stream) = 0;
  virtual void launch(const Unpermute& call, int stream) = 0;
  virtual void launch(const UnpermuteBackward& call, int stream) = 0;
  virtual void launch(const SortRows& call, int stream) = 0;
  virtual void launch(const Embedding& call, int stream) = 0;
  virtual void launch(const EmbeddingBackward& call, int stream) = 0;
  virtual void launch(const CrossEntropy& call, int stream) = 0;
  virtual void launch(const CrossEntropySlice& call, int stream) = 0;
  virtual void launch(const CrossEntropySums& call, int stream) = 0;
  virtual void launch(const CrossEntropyEnd& call, int stream) = 0;
  virtual void launch(const CrossEntropyBackward& call, int stream) = 0;
  virtual void launch(const SumOfSquares& call, int stream) = 0;
  virtual void launch(const Adam& call, int stream) = 0;
  virtual void launch(const ZeroFill& call, int stream) = 0;
  virtual void launch(const Collective& call, int stream) = 0;
};

inline void launch(KernelSet& kernels, const KernelCall& call, int stream) {
  std::visit([&](const auto& c) { kernels.launch(c, stream); }, call);
}

}  // namespace steploom
