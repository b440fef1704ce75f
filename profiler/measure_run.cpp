// Setting up and running all measurements: what every rank does.

#include "profiler/measure_collectives.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "profiler/attention.h"
#include "profiler/bench.h"
#include "profiler/fork_local.h"
#include "profiler/kernel_trace.h"
#include "profiler/measure_check.h"
#include "profiler/measured_on.h"

namespace steploom {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

ncclUniqueId new_id(Bench& bench) {
  ncclUniqueId id{};
  if (bench.first()) check(ncclGetUniqueId(&id));
  const std::string bytes = bench.peers.share({reinterpret_cast<const char*>(&id), sizeof id});
  std::memcpy(&id, bytes.data(), sizeof id);
  return id;
}

std::vector<ncclComm_t> connect(Bench& bench, std::span<const int> asked) {
  std::vector<ncclComm_t> comms(asked.size());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    bench.peers.doing("connecting the ranks with " + std::to_string(asked[i]) + " CTAs");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.minCTAs = config.maxCTAs = asked[i];
    check(ncclCommInitRankConfig(&comms[i], bench.ranks(), new_id(bench), bench.rank(), &config));
    bench.peers.meet();
  }
  return comms;
}

cudaStream_t make_stream(int priority) {
  cudaStream_t stream{};
  check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority));
  return stream;
}

// The GPU of this rank: all differ, and all are of one host, since the trace has one clock.
int take_gpu(Peers& peers) {
  peers.doing("taking a GPU");
  int count = 0;
  check(cudaGetDeviceCount(&count));
  const int device = count == 1 ? 0 : peers.local_rank();  // launchers may show each rank its own
  if (device >= count) {
    fail("the local rank is " + std::to_string(device) + ", and this process sees " +
         std::to_string(count) + " GPUs");
  }
  check(cudaSetDevice(device));
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device));
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const std::string uuid(properties.uuid.bytes, sizeof properties.uuid.bytes);
  std::map<std::string, std::size_t> owners;
  const std::vector<std::string> all = peers.gather(uuid + host);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const std::string name = all[rank].substr(uuid.size());
    if (name != host) {
      fail("measures the GPUs of one host; rank 0 is on " + std::string(host) + ", rank " +
           std::to_string(rank) + " on " + name);
    }
    const auto [owner, is_new] = owners.emplace(all[rank], rank);
    if (!is_new) {
      fail("ranks " + std::to_string(owner->second) + " and " + std::to_string(rank) +
           " have the same GPU");
    }
  }
  return device;
}

Bench set_up(const MeasureOptions& options, Peers& peers, int device, JsonLines* lines) {
  Bench bench{options, peers, lines, device, {}, {}, {}, {}, nullptr, nullptr, {}, {}, {}, {}};
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  bench.stream = make_stream(least);
  bench.urgent = make_stream(greatest);
  bench.side = make_stream(least);
  bench.blocker = make_stream(least);
  for (std::byte** pool : {&bench.send, &bench.receive}) {
    check(cudaMalloc(reinterpret_cast<void**>(pool),
                     static_cast<std::size_t>(kPoolBytes + kGuardBytes)));
  }
  fill_pool(bench.send, kPoolBytes, peers.rank(), peers.ranks(), bench.stream);
  check(cudaStreamSynchronize(bench.stream));
  bench.kernels = make_side_kernels(bench.blocker, bench.side);
  bench.side_kernels = side_kernels_named(options.kernels);
  bench.comms = connect(bench, kAsked);
  bench.second_comms = connect(bench, kAskedSecond);
  return bench;
}

// One origin of time for all ranks, so that times fit into doubles.
void start_traces(Bench& bench) {
  const std::string origin = bench.peers.share(std::to_string(clock_ns()));
  start_trace(std::stoll(origin));
  bench.peers.meet();
  // The trace's own warm-up, and a look at the clocks: nobody ends before the last has started.
  bench.peers.doing("comparing the ranks' clocks");
  const ClockCheck clocks = check_clocks(bench);
  if (bench.first()) {
    std::fprintf(stderr,
                 "clocks: the ranks' ends of %d all-reduces of 1 KiB differ by %.1f us (median)\n",
                 clocks.shots, clocks.ends_differ_us);
  }
}

void measure(Bench& bench) {
  const MeasureOptions& options = bench.options;
  const auto wants = [&](const char* part) {
    return std::find(options.parts.begin(), options.parts.end(), part) != options.parts.end();
  };
  const bool slow = options.fabric == "sockets";
  const std::vector<std::int64_t> single{slow ? kMiB : 16 * kMiB, slow ? 16 * kMiB : 128 * kMiB};
  const std::array<std::int64_t, 1> loops{slow ? 16 * kMiB : 64 * kMiB};

  start_traces(bench);
  std::vector<SweepPoint> points;
  Settings settings, firsts, seconds;
  if (wants("sweep")) points = trace_sweep(bench);
  if (wants("admission")) measure_admission(bench, trace_settings(bench, single, bench.comms));
  if (wants("beside")) settings = trace_settings(bench, loops, bench.comms);
  if (wants("pairs")) {
    const std::array<ncclComm_t, 2> same{bench.comms[2], bench.comms[4]};  // 4 and 16 CTAs
    firsts = trace_settings(bench, loops, same);
    seconds = trace_settings(bench, loops, bench.second_comms);
  }
  stop_trace();
  bench.peers.meet();
  measure_sweep(bench, points);
  if (wants("share")) measure_share(bench);
  if (wants("beside")) measure_beside(bench, settings);
  if (wants("pairs")) measure_pairs(bench, firsts, seconds);
  if (wants("copies")) measure_copies(bench);
  bench.peers.doing("leaving");
  for (ncclComm_t comm : bench.comms) check(ncclCommDestroy(comm));
  for (ncclComm_t comm : bench.second_comms) check(ncclCommDestroy(comm));
  const bool late = bench.out_of_time();
  bench.write(
      JsonLine().add("table", "end").add("seconds", bench.peers.seconds()).add("complete", !late));
}

}  // namespace

void set_fabric(const std::string& fabric) {
  if (fabric != "nvlink") setenv("NCCL_P2P_DISABLE", "1", 1);
  if (fabric == "sockets") setenv("NCCL_SHM_DISABLE", "1", 1);
}

int count_gpus() {
  const int count = ask_child([] {
    int gpus = 0;
    check(cudaGetDeviceCount(&gpus));
    return gpus;
  });
  if (count < 0) _exit(1);  // the child has said why
  return count;
}

int measure_collectives(const MeasureOptions& options, const std::string& command, Peers& peers) {
  const int device = take_gpu(peers);
  std::optional<JsonLines> lines;
  if (peers.first()) {
    lines.emplace(options.out);
    peers.keeping(options.out);
    lines->write(
        measured_on("steploom_collective_points", options.fabric, command, peers.ranks(), device));
  }
  Bench bench = set_up(options, peers, device, lines ? &*lines : nullptr);
  measure(bench);
  if (peers.first()) {
    std::fprintf(stderr, "%s: %.0f s, %s\n", options.fabric.c_str(), peers.seconds(),
                 options.out.c_str());
  }
  return 0;
}

}  // namespace steploom
