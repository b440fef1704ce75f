// From an Ask to a Trial: tensors of random data on the device, the launch, and the proof.
//
// A proof is a plain computation in double precision of sampled rows or elements, from the very
// inputs that the kernel read; results are poisoned before, and all of a bf16 result is searched
// for poison after. Buffers live as long as the Trial.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "profiler/asks.h"
#include "profiler/attention.h"
#include "profiler/buffer.h"
#include "profiler/measure.h"
#include "profiler/products.h"

namespace steploom {

// Handles of the libraries whose kernels are tried; cuDNN's is made when it is first asked for.
class Libraries {
 public:
  const Blas& blas() const { return blas_; }
  const Dnn& dnn() const { return dnn_ ? *dnn_ : dnn_.emplace(); }

 private:
  Blas blas_;
  mutable std::optional<Dnn> dnn_;
};

// `rotate`: bytes that the sets of tensors hold together at least, over the L2 cache's size. The
// libraries must outlive the trial.
Trial make_trial(const Ask& ask, const Libraries& libraries, Bytes rotate);

// For the rooms behind make_trial, one file each.
Trial product_trial(const Ask& ask, const Blas& blas, Bytes rotate);
Trial grouped_trial(const Ask& ask, const Blas& blas, Bytes rotate);
Trial attention_trial(const Ask& ask, const Libraries& libraries, Bytes rotate);
Trial norm_trial(const Ask& ask, Bytes rotate);
Trial elementwise_trial(const Ask& ask, Bytes rotate);  // activation, residual, rotary
Trial optimizer_trial(const Ask& ask, Bytes rotate);    // adam, grad_norm, zero_fill
Trial rows_trial(const Ask& ask, Bytes rotate);         // permute, unpermute, embedding
Trial softmax_trial(const Ask& ask, Bytes rotate);      // router, cross_entropy

// A tensor in `sets` copies, side by side.
template <class T>
class Slab {
 public:
  Slab(std::int64_t count, int sets)
      : count_(count),
        stride_((count + 127) / 128 * 128),
        sets_(sets),
        buffer_(stride_ * sets * static_cast<std::int64_t>(sizeof(T))) {}
  T* at(int set) const { return static_cast<T*>(buffer_.data()) + set * stride_; }
  std::int64_t count() const { return count_; }

  void randomize(std::uint32_t seed, float scale) {
    fill_random(at(0), stride_ * sets_, seed, scale, nullptr);
  }
  void randomize_positive(std::uint32_t seed) {
    fill_random_positive(at(0), stride_ * sets_, seed, nullptr);
  }
  void assign(const std::vector<T>& values) {  // to every set
    for (int set = 0; set < sets_; ++set) {
      copy_to_device(at(set), values.data(), count_ * static_cast<std::int64_t>(sizeof(T)));
    }
  }
  void spoil(Stream stream) const {  // of set 0
    poison(at(0), count_ * static_cast<std::int64_t>(sizeof(T)), stream);
  }
  std::vector<T> read(std::int64_t from, std::int64_t count) const {  // of set 0
    return to_host(at(0) + from, count);
  }

 private:
  std::int64_t count_, stride_;
  int sets_;
  DeviceBuffer buffer_;
};

// Sets of tensors of `bytes` that together exceed `rotate`.
int sets_for(Bytes bytes, Bytes rotate);

// The first, the last, and a few scattered of m rows.
std::vector<std::int64_t> sampled_rows(std::int64_t m);

// A row of bf16 as doubles.
std::vector<double> row_of(const Slab<Bf16>& slab, std::int64_t row, std::int64_t n);

// Collects the first difference beyond |want|·relative + absolute.
class Proof {
 public:
  Proof(double relative, double absolute) : relative_(relative), absolute_(absolute) {}
  void expect(double got, double want, const char* what, std::int64_t row, std::int64_t column);
  // Beyond a tolerance of this element's own.
  void expect_within(double got, double want, double tolerance, const char* what, std::int64_t row,
                     std::int64_t column);
  void expect_written(const Slab<Bf16>& result, Stream stream);
  void expect_written(const Slab<float>& result, Stream stream);
  const std::string& fault() const { return fault_; }

 private:
  double relative_, absolute_;
  std::string fault_;
};

}  // namespace steploom
