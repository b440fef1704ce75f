// Copies that run beside kernels: cudaMemcpyAsync, as a runtime that offloads or moves tensors
// calls it.
//
//   copy_on_device  256 MiB from place to place in the GPU's memory
//   copy_to_device  64 MiB from pinned host memory
//   copy_to_host    64 MiB to pinned host memory
//
// Whether a copy runs on SMs or on one of the GPU's copy engines is CUDA's choice; it is measured
// (measure_copies.cpp), not assumed.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

namespace steploom {

struct SideCopy {
  const char* name;
  std::int64_t bytes;
  double least_us;  // a little less than it takes alone on an H200: for sizing loops of it
};
std::span<const SideCopy> side_copies();

// Memory of one rank, made once: where each copy reads and writes, by side_copies().
class SideCopies {
 public:
  explicit SideCopies(cudaStream_t stream);
  ~SideCopies();
  SideCopies(const SideCopies&) = delete;
  SideCopies& operator=(const SideCopies&) = delete;

  void launch(const SideCopy& copy, cudaStream_t stream) const;
  // Fills the copy's destination with what its source does not hold.
  void poison(const SideCopy& copy, cudaStream_t stream) const;
  // Words of eight bytes that differ between source and destination. Waits for the stream.
  std::int64_t count_wrong(const SideCopy& copy, cudaStream_t stream) const;

 private:
  struct Ends {
    void* from;
    void* to;
  };
  Ends ends_of(const SideCopy& copy) const;

  std::byte* device_[2] = {};
  std::byte* host_[2] = {};  // pinned; kernels read it too
  unsigned long long* wrong_ = nullptr;
};

}  // namespace steploom
