#include "profiler/buffer.h"

#include <utility>

#include "profiler/device_check.cuh"
#include "profiler/vector.cuh"

namespace steploom {
namespace {

constexpr int kBlock = 256;

__device__ std::uint32_t scatter(std::uint64_t index, std::uint32_t seed) {
  std::uint64_t x = index * 0x9E3779B97F4A7C15ULL + seed * 0xD1B54A32D192ED03ULL;
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93ULL;
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93ULL;
  return static_cast<std::uint32_t>(x >> 32);
}

__device__ void put(Bf16* to, float x) {
  *to = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}
__device__ void put(float* to, float x) {
  *to = x;
}
__device__ bool is_nan(Bf16 x) {
  return (x & 0x7FFF) > 0x7F80;
}
__device__ bool is_nan(float x) {
  return x != x;
}
__device__ double wide(Bf16 x) {
  return static_cast<double>(__uint_as_float(static_cast<std::uint32_t>(x) << 16));
}

template <class T>
__global__ void random_values(T* to, std::int64_t count, std::uint32_t seed, float least,
                              float width) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kBlock;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x; i < count;
       i += stride) {
    const float unit =
        static_cast<float>(scatter(static_cast<std::uint64_t>(i), seed) >> 8) * 0x1p-24F;
    put(to + i, least + width * unit);
  }
}

__device__ std::uint64_t mix(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

// Rounded operation by operation, as the host's compiler is told to.
__global__ void initial_values(Bf16* to, ShardRows s, InitialValues v) {
  const std::int64_t count = s.rows * s.width;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kBlock;
  const double spread = __dmul_rn(v.deviation, 1.7320508075688772);
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x; i < count;
       i += stride) {
    const std::int64_t whole = s.first + i / s.width * s.whole_width + i % s.width;
    const double unit =
        static_cast<double>(mix(v.seed + static_cast<std::uint64_t>(whole)) >> 11) * 0x1p-53;
    const double centred = __dadd_rn(__dmul_rn(2, unit), -1);
    put(to + i, static_cast<float>(__dadd_rn(v.mean, __dmul_rn(spread, centred))));
  }
}

__global__ void widened(float* to, const Bf16* from, std::int64_t count) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kBlock;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x; i < count;
       i += stride) {
    to[i] = static_cast<float>(wide(from[i]));
  }
}

__global__ void words(std::int32_t* to, std::int32_t value, std::int64_t count) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kBlock;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x; i < count;
       i += stride) {
    to[i] = value;
  }
}

template <class T>
__global__ void count_kernel(unsigned long long* found, const T* values, std::int64_t count) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kBlock;
  unsigned long long mine = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x; i < count;
       i += stride) {
    if (is_nan(values[i])) ++mine;
  }
  if (mine != 0) atomicAdd(found, mine);
}

__global__ void dot_kernel(double* out, const Bf16* a, const Bf16* b, DotShape s,
                           const ElementPlace* places) {
  __shared__ double sums[kBlock];
  const ElementPlace place = places[blockIdx.x];
  double sum = 0;
  for (std::int64_t l = threadIdx.x; l < s.length; l += kBlock) {
    sum += wide(a[place.row * s.a_row + l * s.a_step]) *
           wide(b[place.column * s.b_row + l * s.b_step]);
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kBlock; ++i) sum += sums[i];
  out[blockIdx.x] = sum;
}

unsigned grid_for(std::int64_t count) {
  const std::int64_t blocks = (count + kBlock - 1) / kBlock;
  return static_cast<unsigned>(blocks < 4096 ? blocks : 4096);
}

template <class T>
void random_fill(T* to, std::int64_t count, std::uint32_t seed, float least, float width,
                 Stream stream) {
  if (count == 0) return;
  random_values<<<grid_for(count), kBlock, 0, stream>>>(to, count, seed, least, width);
  check_launch("fill_random");
}

template <class T>
std::int64_t nans(const T* values, std::int64_t count, Stream stream) {
  if (count == 0) return 0;
  const DeviceBuffer found(sizeof(unsigned long long));
  fill_zero(found.data(), found.bytes(), stream);
  auto* counter = static_cast<unsigned long long*>(found.data());
  count_kernel<<<grid_for(count), kBlock, 0, stream>>>(counter, values, count);
  check_launch("count_nans");
  check(cudaStreamSynchronize(stream), "count_nans");
  return static_cast<std::int64_t>(to_host(counter, 1)[0]);
}

}  // namespace

DeviceBuffer::DeviceBuffer(std::int64_t bytes) : bytes_(bytes) {
  if (bytes > 0) check(cudaMalloc(&data_, static_cast<std::size_t>(bytes)), "cudaMalloc");
}

DeviceBuffer::~DeviceBuffer() {
  cudaFree(data_);  // a fault here was, or will be, reported by the next checked call
}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void fill_random(Bf16* to, std::int64_t count, std::uint32_t seed, float scale, Stream stream) {
  random_fill(to, count, seed, -scale, 2 * scale, stream);
}

void fill_random(float* to, std::int64_t count, std::uint32_t seed, float scale, Stream stream) {
  random_fill(to, count, seed, -scale, 2 * scale, stream);
}

void fill_random_positive(float* to, std::int64_t count, std::uint32_t seed, Stream stream) {
  random_fill(to, count, seed, 0, 1, stream);
}

void fill_initial(Bf16* to, const ShardRows& shard, const InitialValues& values, Stream stream) {
  if (shard.rows * shard.width == 0) return;
  initial_values<<<grid_for(shard.rows * shard.width), kBlock, 0, stream>>>(to, shard, values);
  check_launch("fill_initial");
}

void widen(float* to, const Bf16* from, std::int64_t count, Stream stream) {
  if (count == 0) return;
  widened<<<grid_for(count), kBlock, 0, stream>>>(to, from, count);
  check_launch("widen");
}

void fill_zero(void* to, std::int64_t bytes, Stream stream) {
  check(cudaMemsetAsync(to, 0, static_cast<std::size_t>(bytes), stream), "cudaMemsetAsync");
}

void poison(void* to, std::int64_t bytes, Stream stream) {
  check(cudaMemsetAsync(to, 0xFF, static_cast<std::size_t>(bytes), stream), "cudaMemsetAsync");
}

void fill_words(std::int32_t* to, std::int32_t value, std::int64_t count, Stream stream) {
  if (count == 0) return;
  words<<<grid_for(count), kBlock, 0, stream>>>(to, value, count);
  check_launch("fill_words");
}

std::int64_t count_nans(const Bf16* values, std::int64_t count, Stream stream) {
  return nans(values, count, stream);
}

std::int64_t count_nans(const float* values, std::int64_t count, Stream stream) {
  return nans(values, count, stream);
}

void wait_for_device() {
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

void copy_to_device(void* to, const void* from, std::int64_t bytes) {
  check(cudaMemcpy(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice),
        "copy to the device");
}

void copy_to_host(void* to, const void* from, std::int64_t bytes) {
  wait_for_device();  // our streams do not wait for the default one, nor it for them
  check(cudaMemcpy(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost),
        "copy to the host");
}

std::vector<double> reference_dots(const Bf16* a, const Bf16* b, const DotShape& shape,
                                   std::span<const ElementPlace> places, Stream stream) {
  const auto count = static_cast<std::int64_t>(places.size());
  const DeviceBuffer where(count * static_cast<std::int64_t>(sizeof(ElementPlace)));
  const DeviceBuffer out(count * static_cast<std::int64_t>(sizeof(double)));
  copy_to_device(where.data(), places.data(), where.bytes());
  dot_kernel<<<static_cast<unsigned>(count), kBlock, 0, stream>>>(
      static_cast<double*>(out.data()), a, b, shape,
      static_cast<const ElementPlace*>(where.data()));
  check_launch("reference_dots");
  check(cudaStreamSynchronize(stream), "reference_dots");
  return to_host(static_cast<const double*>(out.data()), count);
}

}  // namespace steploom
