// Kernels in float64 on the CPU: what every other set is held to.
//
// All ranks live in one process. A launch does its work before it returns, so order is the caller's
// (run_reference.h): streams, record and wait do nothing here. A collective is done by the last
// member that launches it.
//
// Memory keeps a Program's own offsets: two bytes become one double, and an fp32 or int32 element
// uses the first double of its two. Tensors that overlap on a device overlap here too. A fresh
// memory, and what is poisoned, is NaN; an index that is NaN throws PoisonRead.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <vector>

#include "profiler/kernel_set.h"

namespace steploom {

class PoisonRead : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ReferenceKernels;

// Where the members of communicators meet; shared by the ranks of a run.
class ReferenceMeeting {
 public:
  struct Member {
    ReferenceKernels* kernels = nullptr;
    const Collective* call = nullptr;
    int index = 0;
  };
  // True when this was the last: the work is done.
  bool arrive(std::uint32_t communicator, std::size_t ranks, const Member& member);

 private:
  std::map<std::uint32_t, std::vector<Member>> waiting_;
};

class ReferenceKernels final : public KernelSet {
 public:
  explicit ReferenceKernels(ReferenceMeeting& meeting) : meeting_(meeting) {}

  std::uint32_t allocate(Bytes bytes) override;
  void write(const TensorRef& to, std::span<const double> values) override;
  std::vector<double> read(const TensorRef& from) override;
  void write_initial(const TensorRef& to, const ParameterTensor& p) override;
  void fill(const TensorRef& to, double value) override;
  void copy(const TensorRef& to, const TensorRef& from) override { write(to, read(from)); }
  void prepare(const Execution& execution) override { execution_ = &execution; }
  void begin_step(std::int64_t number) override { step_ = number; }
  void wait_for_all() override {}
  void record(std::uint32_t, int) override {}
  void wait(std::uint32_t, int) override {}
  void poison(const TensorRef& tensor, int stream) override;

  void launch(const Linear& c, int stream) override;
  void launch(const ExpertLinear& c, int stream) override;
  void launch(const Attention& c, int stream) override;
  void launch(const AttentionBackward& c, int stream) override;
  void launch(const Rotary& c, int stream) override;
  void launch(const Norm& c, int stream) override;
  void launch(const NormBackward& c, int stream) override;
  void launch(const Activation& c, int stream) override;
  void launch(const ActivationBackward& c, int stream) override;
  void launch(const Add& c, int stream) override;
  void launch(const Router& c, int stream) override;
  void launch(const RouterBackward& c, int stream) override;
  void launch(const Permute& c, int stream) override;
  void launch(const PermuteBackward& c, int stream) override;
  void launch(const Unpermute& c, int stream) override;
  void launch(const UnpermuteBackward& c, int stream) override;
  void launch(const SortRows& c, int stream) override;
  void launch(const Embedding& c, int stream) override;
  void launch(const EmbeddingBackward& c, int stream) override;
  void launch(const CrossEntropy& c, int stream) override;
  void launch(const CrossEntropySlice& c, int stream) override;
  void launch(const CrossEntropySums& c, int stream) override;
  void launch(const CrossEntropyEnd& c, int stream) override;
  void launch(const CrossEntropyBackward& c, int stream) override;
  void launch(const SumOfSquares& c, int stream) override;
  void launch(const Adam& c, int stream) override;
  void launch(const ZeroFill& c, int stream) override;
  void launch(const Collective& c, int stream) override;

  // Did the collective launched last find all its members?
  bool met() const { return met_; }

  // A tensor's elements.
  class View {
   public:
    View(double* data, std::int64_t stride, std::int64_t width)
        : data_(data), stride_(stride), width_(width) {}
    double& operator[](std::int64_t i) const { return data_[i * stride_]; }
    double& operator()(std::int64_t row, std::int64_t column) const {
      return data_[(row * width_ + column) * stride_];
    }
    std::int64_t index(std::int64_t i) const;  // an integer; throws PoisonRead

   private:
    double* data_;
    std::int64_t stride_, width_;
  };
  View view(const TensorRef& t);

 private:
  ReferenceMeeting& meeting_;
  const Execution* execution_ = nullptr;
  std::vector<std::vector<double>> memories_;
  std::int64_t step_ = 1;
  bool met_ = false;
};

}  // namespace steploom
