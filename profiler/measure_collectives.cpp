// steploom-measure-collectives: collectives and interference on the GPUs of this machine, by one
// process with one thread a GPU. docs/interference.md says what is measured and how.

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

#include "models/error.h"
#include "profiler/bench.h"
#include "profiler/kernel_trace.h"
#include "profiler/measure_check.h"

extern char** environ;

namespace steploom {
namespace {

constexpr double kPatienceSeconds = 30;
constexpr std::int64_t kMiB = std::int64_t{1} << 20;

constexpr const char* kUsage =
    "usage: steploom-measure-collectives --fabric nvlink|host|sockets --out FILE\n"
    "         [--budget SECONDS] [--parts sweep,admission,share,beside,pairs] [--every N]\n"
    "         [--points FILE]\n"
    "Measures NCCL's collectives on all GPUs of this machine and writes JSON lines.\n"
    "  --fabric  nvlink: NCCL as it is; host: NCCL_P2P_DISABLE=1; sockets: NCCL_SHM_DISABLE=1 too\n"
    "  --budget  points that do not fit are marked or left out (default 480)\n"
    "  --every   only every N-th size (default 1)\n"
    "  --points  only the sweep, and of it only these: a line 'collective bytes' each\n";

[[noreturn]] void refuse(const std::string& why) {
  std::fprintf(stderr, "steploom-measure-collectives: %s\n%s", why.c_str(), kUsage);
  std::exit(2);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

const std::vector<std::string> kParts{"sweep", "admission", "share", "beside", "pairs"};

double positive(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(value >= 1 && value <= 1e6)) {
    refuse(option + " needs a number from 1 to 1000000, not '" + text + "'");
  }
  return value;
}

std::vector<CollectiveAsk> listed(const std::string& file) {
  try {
    return read_collective_asks(file);
  } catch (const Error& error) {
    refuse(error.what());
  }
}

MeasureOptions parse(const std::vector<std::string>& arguments) {
  MeasureOptions options;
  options.parts = kParts;
  options.budget_seconds = 480;
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    const std::string& option = arguments[i];
    if (option == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (i + 1 == arguments.size()) refuse(option + " needs a value");
    const std::string& value = arguments[i + 1];
    if (option == "--fabric") {
      options.fabric = value;
    } else if (option == "--out") {
      options.out = value;
    } else if (option == "--budget") {
      options.budget_seconds = positive(option, value);
    } else if (option == "--every") {
      options.every = static_cast<int>(positive(option, value));
    } else if (option == "--parts") {
      options.parts = split(value);
    } else if (option == "--points") {
      options.points = listed(value);
    } else {
      refuse("unknown option '" + option + "'");
    }
  }
  if (options.out.empty()) refuse("--out is missing");
  if (!options.points.empty()) options.parts = {"sweep"};
  for (const std::string& part : options.parts) {
    if (std::find(kParts.begin(), kParts.end(), part) == kParts.end()) {
      refuse("unknown part '" + part + "'");
    }
  }
  return options;
}

// Sets NCCL's environment before NCCL reads it.
void set_fabric(const std::string& fabric) {
  if (fabric != "nvlink" && fabric != "host" && fabric != "sockets") {
    refuse("--fabric must be nvlink, host or sockets, not '" + fabric + "'");
  }
  if (fabric != "nvlink") setenv("NCCL_P2P_DISABLE", "1", 1);
  if (fabric == "sockets") setenv("NCCL_SHM_DISABLE", "1", 1);
}

std::string first_line(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string dotted(int code, int major, int minor) {
  return std::to_string(code / major) + "." + std::to_string(code % major / minor) + "." +
         std::to_string(code % minor);
}

JsonLine header(const MeasureOptions& options, const std::string& command, int ranks) {
  int driver = 0, runtime = 0, nccl = 0, cublas[3] = {};
  cudaDeviceProp device{};
  check(cudaDriverGetVersion(&driver));
  check(cudaRuntimeGetVersion(&runtime));
  check(ncclGetVersion(&nccl));
  check(cublasGetProperty(MAJOR_VERSION, &cublas[0]));
  check(cublasGetProperty(MINOR_VERSION, &cublas[1]));
  check(cublasGetProperty(PATCH_LEVEL, &cublas[2]));
  check(cudaGetDeviceProperties(&device, 0));
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    if (text.starts_with("NCCL_") || text.starts_with("CUDA_DEVICE_MAX_CONNECTIONS=")) {
      environment.push_back(text);
    }
  }
  std::sort(environment.begin(), environment.end());
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  JsonLine line;
  return line.add("steploom_collective_points", 1)
      .add("date", date)
      .add("command", command)
      .add("fabric", options.fabric)
      .add("ranks", ranks)
      .add("gpu", device.name)
      .add("sms", device.multiProcessorCount)
      .add("driver", first_line("/proc/driver/nvidia/version"))
      .add("cuda_driver", dotted(driver, 1000, 10))
      .add("cuda_runtime", dotted(runtime, 1000, 10))
      .add("nccl", dotted(nccl, 10000, 100))
      .add("cublas", dotted(10000 * cublas[0] + 100 * cublas[1] + cublas[2], 10000, 100))
      .add("environment", environment)
      .add("precision", "bf16");
}

std::vector<ncclComm_t> connect(Bench& bench, std::span<const int> asked,
                                const std::vector<ncclUniqueId>& ids, std::size_t first_id) {
  std::vector<ncclComm_t> comms(asked.size());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    bench.crew.doing("connecting the ranks with " + std::to_string(asked[i]) + " CTAs");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.minCTAs = config.maxCTAs = asked[i];
    check(ncclCommInitRankConfig(&comms[i], bench.ranks(), ids[first_id + i], bench.rank, &config));
    bench.crew.meet();
  }
  return comms;
}

cudaStream_t make_stream(int priority) {
  cudaStream_t stream{};
  check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority));
  return stream;
}

Bench set_up(const MeasureOptions& options, Crew& crew, JsonLines& lines, int rank,
             const std::vector<ncclUniqueId>& ids) {
  Bench bench{options, crew, lines, rank, {}, {}, {}, {}, nullptr, nullptr, {}, {}, {}};
  check(cudaSetDevice(rank));
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
  fill_pool(bench.send, kPoolBytes, rank, crew.ranks(), bench.stream);
  check(cudaStreamSynchronize(bench.stream));
  bench.kernels = make_side_kernels(bench.blocker, bench.side);
  bench.comms = connect(bench, kAsked, ids, 0);
  bench.second_comms = connect(bench, kAskedSecond, ids, kAsked.size());
  return bench;
}

void measure(Bench& bench) {
  const MeasureOptions& options = bench.options;
  const auto wants = [&](const char* part) {
    return std::find(options.parts.begin(), options.parts.end(), part) != options.parts.end();
  };
  const bool slow = options.fabric == "sockets";
  const std::vector<std::int64_t> single{slow ? kMiB : 16 * kMiB, slow ? 16 * kMiB : 128 * kMiB};
  const std::array<std::int64_t, 1> loops{slow ? 16 * kMiB : 64 * kMiB};

  if (bench.first()) start_trace();
  bench.crew.meet();
  trace_collective(bench, collectives()[0], kMiB, bench.comms[0], 1);  // the trace's own warm-up
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
  bench.crew.meet();
  if (bench.first()) stop_trace();
  bench.crew.meet();
  measure_sweep(bench, points);
  if (wants("share")) measure_share(bench);
  if (wants("beside")) measure_beside(bench, settings);
  if (wants("pairs")) measure_pairs(bench, firsts, seconds);
  bench.crew.doing("leaving");
  for (ncclComm_t comm : bench.comms) check(ncclCommDestroy(comm));
  for (ncclComm_t comm : bench.second_comms) check(ncclCommDestroy(comm));
  const bool late = bench.crew.out_of_time(bench.rank);
  bench.write(
      JsonLine().add("table", "end").add("seconds", bench.crew.seconds()).add("complete", !late));
}

int run(const std::vector<std::string>& arguments) {
  const MeasureOptions options = parse(arguments);
  set_fabric(options.fabric);
  int ranks = 0;
  check(cudaGetDeviceCount(&ranks));
  if (ranks < 2) fail("needs two GPUs or more, and this machine has " + std::to_string(ranks));
  JsonLines lines(options.out);
  std::string command = "steploom-measure-collectives";
  for (const std::string& argument : arguments) command += " " + argument;
  lines.write(header(options, command, ranks));
  std::vector<ncclUniqueId> ids(kAsked.size() + kAskedSecond.size());
  for (ncclUniqueId& id : ids) check(ncclGetUniqueId(&id));
  Crew crew(ranks, kPatienceSeconds, options.budget_seconds, options.out);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      Bench bench = set_up(options, crew, lines, rank, ids);
      measure(bench);
    });
  }
  threads.clear();
  std::printf("%s: %.0f s, %s\n", options.fabric.c_str(), crew.seconds(), options.out.c_str());
  return 0;
}

}  // namespace
}  // namespace steploom

int main(int argc, char** argv) {
  return steploom::run({argv + 1, argv + argc});
}
