// The collectives that are measured: one row each, how to launch it and what must come out.
//
// Data are bf16. Element i of rank r's send pool holds a pseudo-random value that is a function of
// (r, i) alone, small enough that sums over all ranks are exact, so a result is checked bit by bit
// against what each element must be. `bytes` counts as Work::bytes does: the larger of one rank's
// send and receive buffer. A call uses bytes [offset, offset + bytes) of both pools.
//
// The uneven all-to-all has the byte matrix M[source][destination] = (destination + 1)·bytes/n²:
// every rank sends the same, and the last rank receives n times what the first does. send_recv goes
// from rank 0 to rank 1.
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace steploom {

inline constexpr std::int64_t kGuardBytes = 256;  // behind a receive buffer, must stay untouched

struct CollectiveCall {
  int rank = 0;
  int ranks = 0;
  std::int64_t bytes = 0;     // a multiple of 1 KiB
  std::int64_t offset = 0;    // into both pools
  std::byte* send = nullptr;  // pools
  std::byte* receive = nullptr;
};

// A run of the receive buffer, all elements from one place of one rank, or the sum over all.
struct Expected {
  std::int64_t at = 0;      // elements from the call's offset
  std::int64_t count = 0;   // elements
  std::int64_t source = 0;  // elements from the start of the sender's pool
  int from = 0;             // rank; kAllRanks: the sum
};
inline constexpr int kAllRanks = -1;

struct NcclCollective {
  const char* name;  // as name_of(OpKind), and "all_to_all_uneven"
  void (*launch)(const CollectiveCall& call, ncclComm_t comm, cudaStream_t stream);
  std::vector<Expected> (*expect)(const CollectiveCall& call);
};

std::span<const NcclCollective> collectives();
const NcclCollective& collective_named(std::string_view name);

// Fills a send pool.
void fill_pool(std::byte* pool, std::int64_t bytes, int rank, int ranks, cudaStream_t stream);

// Overwrites what the call will receive, and the guard behind it, with NaNs.
void poison(const CollectiveCall& call, cudaStream_t stream);

// Elements that are wrong after the call, guard included. Waits for the stream. `wrong` is a
// counter in device memory.
std::int64_t count_wrong(const NcclCollective& collective, const CollectiveCall& call,
                         unsigned long long* wrong, cudaStream_t stream);

}  // namespace steploom
