// Rows of a sliced table by token, with learned positions, and the positions' gradient.
#include "profiler/kernels.h"
#include "profiler/launch.cuh"

namespace steploom::kernels {
namespace {

__global__ void look_up(Bf16* y, const std::int32_t* ids, const Bf16* table, TableRows rows,
                        const Bf16* positions, std::uint32_t sequence, std::uint32_t vectors,
                        std::uint32_t row_vectors) {
  const std::uint32_t v = blockIdx.x * kThreads + threadIdx.x;
  if (v >= vectors) return;
  const std::uint32_t token = v / row_vectors;
  const std::uint32_t column = v - token * row_vectors;
  const std::int64_t at = ids[token] - rows.first;
  Floats f{};
  if (at >= 0 && at < rows.count) f = load(table + (at * row_vectors + column) * kLanes);
  if (positions != nullptr) {
    const std::int64_t place = token % sequence;
    const Floats p = load(positions + (place * row_vectors + column) * kLanes);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) f.v[i] += p.v[i];
  }
  store(y + static_cast<std::int64_t>(v) * kLanes, f);
}

// A thread owns eight columns of one position and goes through the sequences.
__global__ void sum_sequences(float* d_positions, const Bf16* dy, std::uint32_t vectors,
                              std::uint32_t all_vectors) {
  const std::uint32_t v = blockIdx.x * kThreads + threadIdx.x;
  if (v >= vectors) return;
  Floats sum = load(d_positions + static_cast<std::int64_t>(v) * kLanes);
  for (std::uint32_t from = v; from < all_vectors; from += vectors) {
    const Floats f = load(dy + static_cast<std::int64_t>(from) * kLanes);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) sum.v[i] += f.v[i];
  }
  store(d_positions + static_cast<std::int64_t>(v) * kLanes, sum);
}

void need_sequences(const char* name, std::int64_t m, std::int64_t sequence) {
  if (sequence > 0 && m % sequence == 0) return;
  throw DeviceError(std::string(name) + ": " + std::to_string(m) + " tokens are no sequences of " +
                    std::to_string(sequence));
}

}  // namespace

void embed(Bf16* y, const std::int32_t* ids, const Bf16* table, const TableRows& rows,
           const Bf16* positions, std::int64_t sequence, std::int64_t m, std::int64_t n,
           Stream stream) {
  const std::uint32_t vectors = vectors_of("embed", m, n);
  need_sequences("embed", m, sequence);
  look_up<<<blocks_for(vectors, kThreads), kThreads, 0, stream>>>(
      y, ids, table, rows, positions, static_cast<std::uint32_t>(sequence), vectors,
      static_cast<std::uint32_t>(n / kLanes));
  check_launch("embed");
}

void add_positions(float* d_positions, const Bf16* dy, std::int64_t sequence, std::int64_t m,
                   std::int64_t n, Stream stream) {
  const std::uint32_t all = vectors_of("add_positions", m, n);
  need_sequences("add_positions", m, sequence);
  const std::uint32_t vectors = vectors_of("add_positions", sequence, n);
  sum_sequences<<<blocks_for(vectors, kThreads), kThreads, 0, stream>>>(d_positions, dy, vectors,
                                                                        all);
  check_launch("add_positions");
}

}  // namespace steploom::kernels
