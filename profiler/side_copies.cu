#include "profiler/side_copies.h"

#include <array>
#include <string_view>

#include "profiler/collectives.h"
#include "profiler/measure_check.h"

namespace steploom {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::array<SideCopy, 3> kSideCopies{{
    {"copy_on_device", 256 * kMiB, 110},
    {"copy_to_device", 64 * kMiB, 1150},
    {"copy_to_host", 64 * kMiB, 1150},
}};
constexpr std::size_t kDeviceBytes = static_cast<std::size_t>(256 * kMiB);
constexpr std::size_t kHostBytes = static_cast<std::size_t>(64 * kMiB);

__global__ void count_different(const unsigned long long* a, const unsigned long long* b,
                                std::size_t words, unsigned long long* wrong) {
  unsigned long long mine = 0;
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < words;
       i += stride) {
    if (a[i] != b[i]) ++mine;
  }
  if (mine > 0) atomicAdd(wrong, mine);
}

}  // namespace

std::span<const SideCopy> side_copies() {
  return kSideCopies;
}

SideCopies::SideCopies(cudaStream_t stream) {
  for (std::byte*& buffer : device_) check(cudaMalloc(&buffer, kDeviceBytes));
  for (std::byte*& buffer : host_) check(cudaHostAlloc(&buffer, kHostBytes, cudaHostAllocMapped));
  check(cudaMalloc(&wrong_, sizeof *wrong_));
  fill_pool(device_[0], static_cast<std::int64_t>(kDeviceBytes), 0, 2, stream);
  check(cudaMemcpyAsync(host_[0], device_[0], kHostBytes, cudaMemcpyDeviceToHost, stream));
  // Loads every kernel that copies may be made of.
  for (const SideCopy& copy : kSideCopies) {
    launch(copy, stream);
    count_wrong(copy, stream);
  }
}

SideCopies::~SideCopies() {
  for (std::byte* buffer : device_) cudaFree(buffer);
  for (std::byte* buffer : host_) cudaFreeHost(buffer);
  cudaFree(wrong_);
}

SideCopies::Ends SideCopies::ends_of(const SideCopy& copy) const {
  const std::string_view name = copy.name;
  if (name == "copy_on_device") return {device_[0], device_[1]};
  if (name == "copy_to_device") return {host_[0], device_[1]};
  return {device_[0], host_[1]};
}

void SideCopies::launch(const SideCopy& copy, cudaStream_t stream) const {
  const Ends ends = ends_of(copy);
  check(cudaMemcpyAsync(ends.to, ends.from, static_cast<std::size_t>(copy.bytes), cudaMemcpyDefault,
                        stream));
}

void SideCopies::poison(const SideCopy& copy, cudaStream_t stream) const {
  check(cudaMemsetAsync(ends_of(copy).to, 0xff, static_cast<std::size_t>(copy.bytes), stream));
}

std::int64_t SideCopies::count_wrong(const SideCopy& copy, cudaStream_t stream) const {
  const Ends ends = ends_of(copy);
  check(cudaMemsetAsync(wrong_, 0, sizeof *wrong_, stream));
  count_different<<<1056, 256, 0, stream>>>(static_cast<const unsigned long long*>(ends.from),
                                            static_cast<const unsigned long long*>(ends.to),
                                            static_cast<std::size_t>(copy.bytes) / 8, wrong_);
  check(cudaGetLastError());
  unsigned long long found = 0;
  check(cudaMemcpyAsync(&found, wrong_, sizeof found, cudaMemcpyDeviceToHost, stream));
  check(cudaStreamSynchronize(stream));
  return static_cast<std::int64_t>(found);
}

}  // namespace steploom
