#include "profiler/measure_gaps.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "profiler/cuda_kernels.h"
#include "profiler/kernel_trace.h"
#include "profiler/measure_check.h"
#include "profiler/measured_on.h"
#include "profiler/spread.h"

namespace steploom {
namespace {

using HostClock = std::chrono::steady_clock;

constexpr std::int64_t kWidth = 1024;
constexpr Bytes kRow = kWidth * 2;          // bytes of a row of bf16
constexpr Bytes kTensor = Bytes{32} << 20;  // each of kTensors in the one memory
constexpr int kTensors = 6;
constexpr std::uint32_t kEvents = 512;
constexpr int kCompute = 0, kBeside = 1, kThird = 2;  // streams
constexpr int kCtas = 16;
constexpr int kLinks = 40;  // n: chains have n and 2n links, below what CUDA queues
constexpr int kWallSamples = 9;
constexpr int kHostBatch = 40, kHostSamples = 25;
constexpr double kLeastHoldMs = 2;

TensorRef tensor(int which, std::int64_t rows, std::int64_t width = kWidth,
                 ElementType type = ElementType::bf16) {
  return {0, which * kTensor, type, rows, width};
}

struct Named {
  std::string name;
  KernelCall call;
};

// Of the families that a step has: a row-wise kernel of three sizes, a norm, products.
std::vector<Named> kernels_in_chains() {
  std::vector<Named> all;
  for (const std::int64_t rows : {64, 2048, 16384})
    all.push_back({"residual of " + std::to_string(rows) + " rows",
                   Add{tensor(0, rows), tensor(1, rows), tensor(2, rows)}});
  Norm norm;
  norm.y = tensor(0, 2048);
  norm.scale = tensor(3, 2048, 1, ElementType::fp32);
  norm.x = tensor(1, 2048);
  norm.gain = tensor(2, 1);
  all.push_back({"norm of 2048 rows", norm});
  for (const std::int64_t rows : {1024, 8192})
    all.push_back({"product of " + std::to_string(rows) + " rows",
                   Linear{Phase::forward, tensor(0, rows), tensor(1, rows), tensor(2, 1024), {}}});
  return all;
}

// What the executor calls, for its host time.
std::vector<Named> calls_of_the_host() {
  std::vector<Named> all = kernels_in_chains();
  Linear product{Phase::weight_grad,
                 tensor(0, 1024, kWidth, ElementType::fp32),
                 tensor(1, 1024),
                 tensor(2, 1024),
                 {}};
  all.push_back({"weight gradient", product});
  product.bias = tensor(3, 1, kWidth, ElementType::fp32);
  all.push_back({"weight gradient with bias", product});
  all.push_back({"data gradient",
                 Linear{Phase::data_grad, tensor(0, 1024), tensor(1, 1024), tensor(2, 1024), {}}});
  NormBackward norm;
  norm.dx = tensor(0, 2048);
  norm.d_gain = tensor(3, 1, kWidth, ElementType::fp32);
  norm.dy = tensor(1, 2048);
  norm.x = tensor(2, 2048);
  norm.scale = tensor(4, 2048, 1, ElementType::fp32);
  norm.gain = tensor(5, 1);
  all.push_back({"norm backward", norm});
  const AttentionSizes sizes{512, 2, 8, 8, 128, 128};
  const TensorRef sums = tensor(3, 16, 512, ElementType::fp32);
  all.push_back(
      {"attention", Attention{tensor(0, 1024), sums, tensor(1, 1024, 3 * kWidth), sizes}});
  all.push_back({"attention backward",
                 AttentionBackward{tensor(4, 1024, 3 * kWidth), tensor(2, 1024),
                                   tensor(1, 1024, 3 * kWidth), tensor(0, 1024), sums, sizes}});
  return all;
}

// `bytes` as Work::bytes counts: the larger of a rank's two buffers. Their communicators: 0 has the
// ranks in order, 1 the other way round.
Collective collective_of(CollectiveKind kind, Bytes bytes, int ranks,
                         std::uint32_t communicator = 0) {
  const std::int64_t rows = bytes / kRow;
  Collective c;
  c.kind = kind;
  c.communicator = communicator;
  Collective::Piece piece;
  piece.to = tensor(3, kind == CollectiveKind::reduce_scatter ? rows / ranks : rows);
  piece.from = tensor(4, kind == CollectiveKind::all_gather ? rows / ranks : rows);
  if (kind == CollectiveKind::send) piece.to = {};
  if (kind == CollectiveKind::receive) piece.from = {};
  c.pieces = {piece};
  return c;
}

constexpr CollectiveKind kKinds[] = {CollectiveKind::all_gather, CollectiveKind::reduce_scatter,
                                     CollectiveKind::all_reduce_sum, CollectiveKind::all_to_all};

// As the profile names them (models/work.h).
std::string name_in_profile(CollectiveKind kind) {
  if (kind == CollectiveKind::all_reduce_sum) return "all_reduce";
  if (kind == CollectiveKind::send) return "send_recv";
  return std::string(name_of(kind));
}

struct Chain {
  std::string name, kernel, collective;  // collective: empty where there is none
  Bytes bytes = 0;                       // of the collective
  std::function<void(int links)> launch;
  bool in_graph = false;
};

class Gaps {
 public:
  Gaps(Peers& peers, JsonLines* lines, const std::string& fabric)
      : peers_(peers), lines_(lines), kernels_(peers) {
    const int n = peers.ranks();
    sizes_ = fabric == "nvlink" ? std::vector<Bytes>{64 << 10, 512 << 10, 4 << 20, 32 << 20}
                                : std::vector<Bytes>{64 << 10, 1 << 20};
    Execution e;
    e.rank = peers.rank();
    e.memories = {{MemoryKind::arena, kTensors * kTensor}};
    e.events = kEvents;
    for (const char* name : {"compute", "beside", "third"}) e.streams.push_back({name, 0});
    for (std::uint32_t id = 0; id < 2; ++id) {
      CommunicatorSpec spec{"all ranks", CommGroup::none, id, {}, 0, kCtas, 0};
      for (int r = 0; r < n; ++r) spec.ranks.push_back(id == 0 ? r : n - 1 - r);
      spec.index = id == 0 ? peers.rank() : n - 1 - peers.rank();
      e.communicators.push_back(spec);
    }
    const auto add = [&](KernelCall call) { e.calls.emplace_back().kernel = std::move(call); };
    for (const Named& k : calls_of_the_host()) {
      add(k.call);
      add(k.call);
      e.calls.back().stream = kBeside;  // planned for a stream
    }
    for (const Bytes bytes : sizes_) {
      for (const CollectiveKind kind : kKinds) add(collective_of(kind, bytes, n));
      for (const std::uint32_t c : {0U, 1U})
        if (n == 2) add(message(bytes, c));
    }
    kernels_.allocate(kTensors * kTensor);
    kernels_.prepare(e);
    kernels_.fill({0, 0, ElementType::bf16, kTensors * kTensor / kRow, kWidth}, 0);
  }

  void measure_chains() {
    const std::vector<Chain> all = chains();
    std::vector<Spread> us;
    for (const Chain& chain : all) {
      peers_.doing("timing " + chain.name + " " + chain.kernel + " " + chain.collective);
      us.push_back(wall(chain));
    }
    peers_.doing("tracing chains");
    start_trace(std::stoll(peers_.share(std::to_string(clock_ns()))));
    for (std::size_t i = 0; i < all.size(); ++i) write(all[i], us[i], intervals(all[i]));
    stop_trace();
    peers_.meet();
  }

  void measure_host() {
    for (const Named& k : calls_of_the_host())
      host(k.name, [&] { launch(kernels_, k.call, kCompute); });
    for (const CollectiveKind kind : kKinds) {
      const KernelCall call = collective_of(kind, sizes_.front(), peers_.ranks());
      host(name_in_profile(kind), [&] { launch(kernels_, call, kCompute); });
    }
    host("event record", [&] { kernels_.record(0, kCompute); });
    host("event wait", [&] { kernels_.wait(0, kBeside); });
    host("event record and wait", [&] {
      kernels_.record(0, kCompute);
      kernels_.wait(0, kBeside);
    });
  }

 private:
  // What this rank calls for a message over communicator `c`, from its first rank to its second.
  Collective message(Bytes bytes, std::uint32_t c) const {
    const bool sends = (c == 0) == (peers_.rank() == 0);
    return collective_of(sends ? CollectiveKind::send : CollectiveKind::receive, bytes, 2, c);
  }

  void hop(int from, int to) {
    const std::uint32_t event = next_event_++ % kEvents;
    kernels_.record(event, from);
    kernels_.wait(event, to);
  }

  std::vector<Chain> chains() {
    std::vector<Chain> all;
    for (const Named& k : kernels_in_chains()) {
      const auto run = [this, call = k.call](int links) {
        for (int i = 0; i < links; ++i) launch(kernels_, call, kCompute);
      };
      all.push_back({"kernels", k.name, "", 0, run, false});
      all.push_back({"kernels_in_graph", k.name, "", 0, run, true});
      all.push_back({"kernels_across_streams", k.name, "", 0,
                     [this, call = k.call](int links) {
                       for (int i = 0; i < links; ++i) {
                         launch(kernels_, call, i % 2 == 0 ? kCompute : kBeside);
                         hop(i % 2 == 0 ? kCompute : kBeside, i % 2 == 0 ? kBeside : kCompute);
                       }
                     },
                     false});
    }
    const std::vector<Named> some = kernels_in_chains();
    for (const Bytes bytes : sizes_) {
      for (const CollectiveKind kind : kKinds) {
        const KernelCall c = collective_of(kind, bytes, peers_.ranks());
        all.push_back({"collectives", "", name_in_profile(kind), bytes,
                       [this, c](int links) {
                         for (int i = 0; i < links; ++i) launch(kernels_, c, kCompute);
                       },
                       false});
        for (const std::size_t k : {std::size_t{1}, std::size_t{4}}) {
          if (k != 1 && kind != CollectiveKind::all_gather) continue;
          all.push_back({"kernel_and_collective", some[k].name, name_in_profile(kind), bytes,
                         [this, c, call = some[k].call](int links) {
                           for (int i = 0; i < links; ++i) {
                             launch(kernels_, call, kCompute);
                             hop(kCompute, kBeside);
                             launch(kernels_, c, kBeside);
                             hop(kBeside, kCompute);
                           }
                         },
                         false});
        }
      }
      if (peers_.ranks() != 2) continue;
      // A kernel and a message to the other rank, whose kernel waits for it; then back.
      all.push_back({"kernel_and_message", some[1].name, "send_recv", bytes,
                     [this, bytes, call = some[1].call](int links) {
                       for (int i = 0; i < links; ++i) {
                         const auto c = static_cast<std::uint32_t>(i % 2);
                         const Collective mine = message(bytes, c);
                         if (mine.kind == CollectiveKind::send) {
                           launch(kernels_, KernelCall(call), kCompute);
                           hop(kCompute, kBeside);
                           launch(kernels_, KernelCall(mine), kBeside);
                         } else {
                           launch(kernels_, KernelCall(mine), kThird);
                           hop(kThird, kCompute);
                         }
                       }
                     },
                     false});
    }
    return all;
  }

  // Microseconds of a chain that was enqueued before it began; longer holds until that is so.
  double chain_us(const Chain& chain, int links) {
    if (chain.in_graph) {
      kernels_.capture([&] { chain.launch(links); });
      kernels_.replay();  // the first one uploads
    }
    while (true) {
      peers_.meet();
      kernels_.wait_for_all();
      const HostClock::time_point start = HostClock::now();
      kernels_.delay(hold_ms_, kCompute);
      const std::size_t from = kernels_.mark();
      if (chain.in_graph) {
        kernels_.replay();
      } else {
        chain.launch(links);
      }
      const std::size_t to = kernels_.mark();
      const double host_ms =
          std::chrono::duration<double, std::milli>(HostClock::now() - start).count();
      const double us = kernels_.microseconds(from, to);
      kernels_.forget_marks();
      const double longest = peers_.most(host_ms);
      if (longest < 0.8 * hold_ms_) return us;
      hold_ms_ = 2 * longest;
    }
  }

  Spread wall(const Chain& chain) {
    std::vector<double> us;
    for (int i = 0; i < kWallSamples; ++i) {
      const double one = chain_us(chain, kLinks);
      us.push_back((chain_us(chain, 2 * kLinks) - one) / kLinks);
    }
    return spread_of(us);
  }

  // By "kernel" and "collective": durations, and what lies between the end of the one and the start
  // of the next: medians over one chain on this rank.
  std::map<std::string, double> intervals(const Chain& chain) {
    take_trace();
    chain_us(chain, kLinks);
    check(cudaDeviceSynchronize());
    std::map<std::string, std::vector<double>> seen;
    const std::vector<KernelRun> runs = take_trace();
    const auto kind = [](const KernelRun& r) { return r.collective ? "collective" : "kernel"; };
    // The last spin of the trace is where the chain that counts begins.
    const double spun_ns = 0.9e6 * hold_ms_;
    std::size_t first = 0;
    for (std::size_t i = 0; i < runs.size(); ++i)
      if (static_cast<double>(runs[i].end_ns - runs[i].start_ns) > spun_ns) first = i + 1;
    for (std::size_t i = first; i < runs.size(); ++i) {
      seen[std::string(kind(runs[i])) + "_us"].push_back(
          1e-3 * static_cast<double>(runs[i].end_ns - runs[i].start_ns));
      if (i == first) continue;
      seen[std::string(kind(runs[i - 1])) + "_to_" + kind(runs[i]) + "_us"].push_back(
          1e-3 * static_cast<double>(runs[i].start_ns - runs[i - 1].end_ns));
    }
    std::map<std::string, double> medians;
    for (const auto& [what, us] : seen) medians[what] = spread_of(us).median;
    return medians;
  }

  void write(const Chain& chain, const Spread& us, const std::map<std::string, double>& traced) {
    if (lines_ == nullptr) return;
    JsonLine line;
    line.add("table", "chain").add("chain", chain.name).add("kernel", chain.kernel);
    line.add("collective", chain.collective).add("bytes", static_cast<long long>(chain.bytes));
    line.add("ctas", chain.collective.empty() ? 0 : kCtas).add("us", us).add("samples", us.samples);
    for (const auto& [what, median] : traced) line.add("traced_" + what, median);
    lines_->write(line);
  }

  void host(const std::string& what, const std::function<void()>& act) {
    peers_.doing("timing the host: " + what);
    std::vector<double> us;
    for (int i = 0; i < kHostSamples; ++i) {
      kernels_.wait_for_all();
      peers_.meet();
      const HostClock::time_point start = HostClock::now();
      for (int j = 0; j < kHostBatch; ++j) act();
      us.push_back(std::chrono::duration<double, std::micro>(HostClock::now() - start).count() /
                   kHostBatch);
    }
    kernels_.wait_for_all();
    const Spread spread = spread_of(us);
    if (lines_ == nullptr) return;
    lines_->write(JsonLine()
                      .add("table", "host")
                      .add("call", what)
                      .add("us", spread)
                      .add("samples", spread.samples));
  }

  Peers& peers_;
  JsonLines* lines_;
  CudaKernels kernels_;
  std::vector<Bytes> sizes_;
  std::uint32_t next_event_ = 0;
  double hold_ms_ = kLeastHoldMs;
};

}  // namespace

int measure_gaps(const GapOptions& options, const std::string& command, Peers& peers) {
  take_gpu(peers);
  int device = 0;
  check(cudaGetDevice(&device));
  std::optional<JsonLines> lines;
  if (peers.first()) {
    lines.emplace(options.out);
    peers.keeping(options.out);
    lines->write(measured_on("steploom_gaps", options.fabric, command, peers.ranks(), device));
  }
  const auto wants = [&](const char* part) {
    return std::find(options.parts.begin(), options.parts.end(), part) != options.parts.end();
  };
  JsonLines* mine = lines ? &*lines : nullptr;
  if (wants("memory")) measure_communicators(peers, mine);
  if (wants("host") || wants("gaps")) {
    const auto gaps = std::make_unique<Gaps>(peers, mine, options.fabric);
    if (wants("host")) gaps->measure_host();  // before anything is traced
    if (wants("gaps")) gaps->measure_chains();
  }
  peers.meet();
  if (mine != nullptr) mine->write(JsonLine().add("table", "end").add("seconds", peers.seconds()));
  return 0;
}

}  // namespace steploom
