// Device memory with an owner, filled with random data, and searched for what was never written.
//
// Random values come from a fixed hash of (seed, index): the same data in every run, and no zeros,
// on which kernels run faster than they do on real data. Poison is all ones: NaN as bf16 and fp32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "profiler/device.h"

namespace steploom {

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(std::int64_t bytes);  // throws OutOfDeviceMemory
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;

  std::int64_t bytes() const { return bytes_; }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

// Uniform in ±scale.
void fill_random(Bf16* to, std::int64_t count, std::uint32_t seed, float scale, Stream stream);
void fill_random(float* to, std::int64_t count, std::uint32_t seed, float scale, Stream stream);
// Uniform in [0, 1): second moments of Adam are not negative.
void fill_random_positive(float* to, std::int64_t count, std::uint32_t seed, Stream stream);
// A shard's initial values as step_data.h defines them, the same bits: row r's elements are those
// of the whole tensor from first + r·whole_width on.
struct ShardRows {
  std::int64_t rows, width, first, whole_width;
};
struct InitialValues {
  std::uint64_t seed;
  double mean, deviation;
};
void fill_initial(Bf16* to, const ShardRows& shard, const InitialValues& values, Stream stream);
void widen(float* to, const Bf16* from, std::int64_t count, Stream stream);
void fill_zero(void* to, std::int64_t bytes, Stream stream);
void poison(void* to, std::int64_t bytes, Stream stream);
void fill_words(std::int32_t* to, std::int32_t value, std::int64_t count, Stream stream);

// NaNs among the values; waits for the stream.
std::int64_t count_nans(const Bf16* values, std::int64_t count, Stream stream);
std::int64_t count_nans(const float* values, std::int64_t count, Stream stream);

// For all streams: what was filled is there, what was launched has ended.
void wait_for_device();

// Blocking copies; a copy to the host waits for all that was launched before.
void copy_to_device(void* to, const void* from, std::int64_t bytes);
void copy_to_host(void* to, const void* from, std::int64_t bytes);

template <class T>
std::vector<T> to_host(const T* from, std::int64_t count) {
  std::vector<T> out(static_cast<std::size_t>(count));
  copy_to_host(out.data(), from, count * static_cast<std::int64_t>(sizeof(T)));
  return out;
}

// Element (i, j) of a product, for checks: Σ_l a[i·a_row + l·a_step] · b[j·b_row + l·b_step] in
// double precision, summed by one plain loop.
struct DotShape {
  std::int64_t a_row, a_step, b_row, b_step, length;
};
struct ElementPlace {
  std::int64_t row, column;
};
std::vector<double> reference_dots(const Bf16* a, const Bf16* b, const DotShape& shape,
                                   std::span<const ElementPlace> places, Stream stream);

}  // namespace steploom
