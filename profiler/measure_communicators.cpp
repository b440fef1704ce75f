// Device memory that NCCL takes, communicator by communicator.
#include <nccl.h>

#include <array>
#include <cstring>

#include "profiler/collectives.h"
#include "profiler/cuda_kernels.h"
#include "profiler/measure_check.h"
#include "profiler/measure_gaps.h"

namespace steploom {
namespace {

constexpr Bytes kSmall = 8 << 10, kLarge = 32 << 20;
constexpr std::array<const char*, 5> kKinds{"all_reduce", "all_gather", "reduce_scatter",
                                            "all_to_all", "send_recv"};
struct Asked {
  int ctas;                          // 0: NCCL's own choice
  std::array<std::size_t, 5> kinds;  // in this order
};
// The first two are alike; those after them begin with each kind in turn.
constexpr std::array<Asked, 14> kAsked{{{1, {0, 1, 2, 3, 4}},
                                        {1, {0, 1, 2, 3, 4}},
                                        {2, {0, 1, 2, 3, 4}},
                                        {4, {0, 1, 2, 3, 4}},
                                        {8, {0, 1, 2, 3, 4}},
                                        {16, {0, 1, 2, 3, 4}},
                                        {32, {0, 1, 2, 3, 4}},
                                        {0, {0, 1, 2, 3, 4}},
                                        {8, {1, 2, 3, 4, 0}},
                                        {8, {2, 0, 1, 3, 4}},
                                        {8, {3, 4, 0, 1, 2}},
                                        {8, {4, 3, 0, 1, 2}},
                                        {16, {3, 4, 0, 1, 2}},
                                        {4, {4, 3, 0, 1, 2}}}};

class Taken {
 public:
  explicit Taken(Peers& peers) : peers_(peers) {}
  // Since the last call, the largest over the ranks.
  Bytes operator()() {
    check(cudaDeviceSynchronize());
    peers_.meet();
    const Bytes free = device_memory().free;
    const Bytes taken = before_ - free;
    before_ = free;
    return static_cast<Bytes>(peers_.most(static_cast<double>(taken)));
  }

 private:
  Peers& peers_;
  Bytes before_ = device_memory().free;
};

ncclComm_t connect_world(Peers& peers) {
  ncclUniqueId id{};
  if (peers.first()) check(ncclGetUniqueId(&id));
  const std::string bytes = peers.share({reinterpret_cast<const char*>(&id), sizeof id});
  std::memcpy(&id, bytes.data(), sizeof id);
  ncclComm_t world = nullptr;
  check(ncclCommInitRank(&world, peers.ranks(), id, peers.rank()));
  return world;
}

}  // namespace

void measure_communicators(Peers& peers, JsonLines* lines) {
  std::byte* pools[2] = {};
  for (std::byte*& pool : pools)
    check(cudaMalloc(reinterpret_cast<void**>(&pool), kLarge + kGuardBytes));
  cudaStream_t stream{};
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  fill_pool(pools[0], kLarge, peers.rank(), peers.ranks(), stream);
  check(cudaStreamSynchronize(stream));
  const DeviceMemory at_first = device_memory();
  int number = 0;
  const auto write = [&](int ctas, const std::string& step, Bytes bytes, Bytes taken) {
    if (lines == nullptr) return;
    lines->write(JsonLine()
                     .add("table", "memory")
                     .add("communicator", number)
                     .add("ctas", ctas)
                     .add("step", step)
                     .add("bytes", static_cast<long long>(bytes))
                     .add("taken", static_cast<long long>(taken)));
  };
  write(0, "context", 0, at_first.total - at_first.free);
  Taken taken(peers);
  peers.doing("connecting all ranks");
  ncclComm_t world = connect_world(peers);
  write(0, "world", 0, taken());
  std::vector<ncclComm_t> comms;
  for (const Asked& asked : kAsked) {
    ++number;
    peers.doing("communicator " + std::to_string(number));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    if (asked.ctas > 0) config.minCTAs = config.maxCTAs = asked.ctas;
    ncclComm_t comm = nullptr;
    check(ncclCommSplit(world, 0, peers.rank(), &comm, &config));
    comms.push_back(comm);
    write(asked.ctas, "made", 0, taken());
    for (const std::size_t kind : asked.kinds) {
      for (const Bytes bytes : {kSmall, kLarge}) {
        const CollectiveCall call{peers.rank(), peers.ranks(), bytes, 0, pools[0], pools[1]};
        collective_named(kKinds[kind]).launch(call, comm, stream);
        write(asked.ctas, kKinds[kind], bytes, taken());
      }
    }
  }
  peers.doing("leaving the communicators");
  for (ncclComm_t comm : comms) check(ncclCommDestroy(comm));
  check(ncclCommDestroy(world));
  check(cudaStreamDestroy(stream));
  for (std::byte* pool : pools) check(cudaFree(pool));
}

}  // namespace steploom
