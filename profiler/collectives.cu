#include "profiler/collectives.h"

#include <cuda_bf16.h>

#include <array>
#include <string>

#include "profiler/measure_check.h"

namespace steploom {
namespace {

constexpr std::int64_t kElement = 2;  // bytes of a bf16
constexpr int kThreads = 256;
constexpr int kBlocks = 1056;

std::int64_t elements(const CollectiveCall& call) {
  return call.bytes / kElement;
}

// Multiples of 1/64 below 256/ranks of them: all sums are exact in bf16's eight bits.
__device__ float value_of(int rank, std::int64_t index, int ranks) {
  std::uint64_t x = static_cast<std::uint64_t>(index) + (static_cast<std::uint64_t>(rank) << 40);
  x *= 0x9E3779B97F4A7C15ull;
  x ^= x >> 31;
  x *= 0xBF58476D1CE4E5B9ull;
  x ^= x >> 29;
  const int most = 256 / ranks - 1;
  return static_cast<float>(static_cast<int>(x % (2 * most + 1)) - most) / 64.0f;
}

__global__ void fill(__nv_bfloat16* pool, std::int64_t count, int rank, int ranks) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    pool[i] = __float2bfloat16(value_of(rank, i, ranks));
  }
}

__global__ void compare(const __nv_bfloat16* received, Expected expected, int ranks,
                        unsigned long long* wrong) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  unsigned long long mine = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
       i < expected.count; i += stride) {
    float sum = 0;
    const int first = expected.from == kAllRanks ? 0 : expected.from;
    const int last = expected.from == kAllRanks ? ranks - 1 : expected.from;
    for (int rank = first; rank <= last; ++rank) sum += value_of(rank, expected.source + i, ranks);
    if (!(__bfloat162float(received[expected.at + i]) == sum)) ++mine;
  }
  if (mine > 0) atomicAdd(wrong, mine);
}

__global__ void compare_guard(const std::byte* guard, unsigned long long* wrong) {
  if (guard[threadIdx.x] != std::byte{0xff}) atomicAdd(wrong, 1ull);
}

void all_reduce(const CollectiveCall& c, ncclComm_t comm, cudaStream_t stream) {
  check(ncclAllReduce(c.send + c.offset, c.receive + c.offset,
                      static_cast<std::size_t>(elements(c)), ncclBfloat16, ncclSum, comm, stream));
}
std::vector<Expected> expect_all_reduce(const CollectiveCall& c) {
  return {{0, elements(c), c.offset / kElement, kAllRanks}};
}

void all_gather(const CollectiveCall& c, ncclComm_t comm, cudaStream_t stream) {
  check(ncclAllGather(c.send + c.offset, c.receive + c.offset,
                      static_cast<std::size_t>(elements(c) / c.ranks), ncclBfloat16, comm, stream));
}
std::vector<Expected> expect_all_gather(const CollectiveCall& c) {
  std::vector<Expected> all;
  const std::int64_t part = elements(c) / c.ranks;
  for (int from = 0; from < c.ranks; ++from) {
    all.push_back({from * part, part, c.offset / kElement, from});
  }
  return all;
}

void reduce_scatter(const CollectiveCall& c, ncclComm_t comm, cudaStream_t stream) {
  check(ncclReduceScatter(c.send + c.offset, c.receive + c.offset,
                          static_cast<std::size_t>(elements(c) / c.ranks), ncclBfloat16, ncclSum,
                          comm, stream));
}
std::vector<Expected> expect_reduce_scatter(const CollectiveCall& c) {
  const std::int64_t part = elements(c) / c.ranks;
  return {{0, part, c.offset / kElement + c.rank * part, kAllRanks}};
}

// Elements that `source` sends to `destination`.
using Matrix = std::int64_t (*)(const CollectiveCall& call, int source, int destination);
std::int64_t even(const CollectiveCall& c, int, int) {
  return elements(c) / c.ranks;
}
std::int64_t uneven(const CollectiveCall& c, int, int destination) {
  return (destination + 1) * elements(c) / (c.ranks * c.ranks);
}

template <Matrix matrix>
void all_to_all(const CollectiveCall& c, ncclComm_t comm, cudaStream_t stream) {
  std::int64_t sent = c.offset, received = c.offset;
  check(ncclGroupStart());
  for (int peer = 0; peer < c.ranks; ++peer) {
    const std::int64_t out = matrix(c, c.rank, peer), in = matrix(c, peer, c.rank);
    check(ncclSend(c.send + sent, static_cast<std::size_t>(out), ncclBfloat16, peer, comm, stream));
    check(ncclRecv(c.receive + received, static_cast<std::size_t>(in), ncclBfloat16, peer, comm,
                   stream));
    sent += out * kElement;
    received += in * kElement;
  }
  check(ncclGroupEnd());
}
template <Matrix matrix>
std::vector<Expected> expect_all_to_all(const CollectiveCall& c) {
  std::vector<Expected> all;
  std::int64_t at = 0;
  for (int from = 0; from < c.ranks; ++from) {
    std::int64_t source = c.offset / kElement;
    for (int before = 0; before < c.rank; ++before) source += matrix(c, from, before);
    all.push_back({at, matrix(c, from, c.rank), source, from});
    at += all.back().count;
  }
  return all;
}

void send_recv(const CollectiveCall& c, ncclComm_t comm, cudaStream_t stream) {
  const auto count = static_cast<std::size_t>(elements(c));
  if (c.rank == 0) check(ncclSend(c.send + c.offset, count, ncclBfloat16, 1, comm, stream));
  if (c.rank == 1) check(ncclRecv(c.receive + c.offset, count, ncclBfloat16, 0, comm, stream));
}
std::vector<Expected> expect_send_recv(const CollectiveCall& c) {
  if (c.rank != 1) return {};
  return {{0, elements(c), c.offset / kElement, 0}};
}

constexpr std::array<NcclCollective, 6> kCollectives{{
    {"all_reduce", all_reduce, expect_all_reduce},
    {"all_gather", all_gather, expect_all_gather},
    {"reduce_scatter", reduce_scatter, expect_reduce_scatter},
    {"all_to_all", all_to_all<even>, expect_all_to_all<even>},
    {"all_to_all_uneven", all_to_all<uneven>, expect_all_to_all<uneven>},
    {"send_recv", send_recv, expect_send_recv},
}};

}  // namespace

std::span<const NcclCollective> collectives() {
  return kCollectives;
}

const NcclCollective& collective_named(std::string_view name) {
  for (const NcclCollective& collective : kCollectives) {
    if (name == collective.name) return collective;
  }
  fail("no collective is named " + std::string(name));
}

void fill_pool(std::byte* pool, std::int64_t bytes, int rank, int ranks, cudaStream_t stream) {
  fill<<<kBlocks, kThreads, 0, stream>>>(reinterpret_cast<__nv_bfloat16*>(pool), bytes / kElement,
                                         rank, ranks);
  check(cudaGetLastError());
}

void poison(const CollectiveCall& call, cudaStream_t stream) {
  check(cudaMemsetAsync(call.receive + call.offset, 0xff,
                        static_cast<std::size_t>(call.bytes + kGuardBytes), stream));
}

std::int64_t count_wrong(const NcclCollective& collective, const CollectiveCall& call,
                         unsigned long long* wrong, cudaStream_t stream) {
  check(cudaMemsetAsync(wrong, 0, sizeof *wrong, stream));
  std::int64_t end = 0;  // elements
  for (const Expected& expected : collective.expect(call)) {
    compare<<<kBlocks, kThreads, 0, stream>>>(
        reinterpret_cast<const __nv_bfloat16*>(call.receive + call.offset), expected, call.ranks,
        wrong);
    check(cudaGetLastError());
    end = expected.at + expected.count;
  }
  compare_guard<<<1, kGuardBytes, 0, stream>>>(call.receive + call.offset + end * kElement, wrong);
  check(cudaGetLastError());
  unsigned long long count = 0;
  check(cudaMemcpyAsync(&count, wrong, sizeof count, cudaMemcpyDeviceToHost, stream));
  check(cudaStreamSynchronize(stream));
  return static_cast<std::int64_t>(count);
}

}  // namespace steploom
