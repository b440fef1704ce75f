// steploom-measure: times kernels on the GPU at hand and writes one file of measured points.
//
// Points come from a list (profiler/asks.h) or, without one, from the built-in catalogue. Every
// line is written as soon as it is known, so an interrupted run leaves what it has measured. How a
// point is measured: profiler/measure.h. Exit status 0: all done; 1: a kernel computed something
// wrong or failed; 2: a refused ask.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "models/error.h"
#include "profiler/measure.h"
#include "profiler/trial.h"

namespace steploom {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kHotMs = 200;
constexpr double kOtherMs = 60;
constexpr const char* kMethod =
    "Each point: results poisoned, computed once, checked against double precision on sampled rows "
    "or elements; then random data in sets of tensors that together exceed 2.5 times the L2 cache, "
    "used in turn; shots captured in a CUDA graph of about 2 ms (one by one where the note says "
    "so), replayed without pause for at least 200 ms (products, attention) or 60 ms (others), the "
    "first half "
    "of the replays dropped; a sample is the mean over a replay, the gap between kernels "
    "included; sm_mhz and watts from NVML three quarters through, and watts lags by about 0.1 s: "
    "short points show their predecessors in it";

struct Options {
  std::string list;
  std::string only;  // kind
  std::string out = "kernels.jsonl";
  double budget_minutes = 12;
  bool prove_only = false;
};

// Writes and keeps count.
class Output {
 public:
  explicit Output(const std::string& path) : path_(path), file_(path, std::ios::binary) { ok(); }
  void line(const std::string& text) {
    file_ << text << '\n' << std::flush;
    ok();
  }

 private:
  void ok() const {
    if (!file_) throw Error({path_, "", "a file that can be written", "a refusal", ""});
  }
  std::string path_;
  std::ofstream file_;
};

// Bound by the tensor cores, and so by the card's heat.
bool is_hot(const Ask& ask) {
  const OpClass group = class_of(ask.work.kind);
  return group == OpClass::matmul || group == OpClass::grouped_matmul ||
         group == OpClass::attention;
}

Timing prove_only(const Trial& trial, Stream stream) {
  const std::string fault = trial.prove(stream);
  return {{}, fault.empty() ? "proved, not timed" : "wrong: " + fault};
}

MeasuredPoint measure_one(const Ask& ask, const Options& options, const Libraries& libraries,
                          const Nvml& nvml, Bytes rotate, Stream stream) {
  Timing timing;
  try {
    Trial trial = make_trial(ask, libraries, rotate);
    trial.sustained_ms = is_hot(ask) ? kHotMs : kOtherMs;
    timing = options.prove_only ? prove_only(trial, stream) : measure(trial, nvml, stream);
  } catch (const OutOfDeviceMemory& error) {
    timing.note = std::string("skipped: ") + error.what();
  } catch (const DeviceError& error) {
    timing.note = std::string("failed: ") + error.what();
  }
  return {ask, timing.stats, timing.note};
}

// 91900 is 9.19.0, as cuDNN and cuBLAS count.
std::string dotted(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

MeasuredOn describe(const DeviceFacts& facts, const Nvml& nvml, std::string command) {
  const std::time_t now = std::time(nullptr);
  MeasuredOn on;
  on.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
  on.command = std::move(command);
  on.gpu = facts.name;
  on.driver = nvml.driver();
  on.cuda_runtime = fmt::format("{}.{}", facts.runtime / 1000, facts.runtime % 1000 / 10);
  on.cublas = dotted(Blas::version());
  if (Dnn::version() > 0) on.cudnn = dotted(Dnn::version());
  on.sms = facts.sms;
  on.memory = facts.memory;
  on.l2 = facts.l2;
  on.memory_mhz = nvml.memory_mhz();
  on.most_sm_mhz = nvml.most_sm_mhz();
  on.method = kMethod;
  return on;
}

int run(const Options& options, const std::string& command) {
  std::vector<Ask> asks = options.list.empty() ? built_in_asks() : read_asks(options.list);
  if (!options.only.empty()) {
    const OpKind only = kind_of(options.only, "steploom-measure", "--only");
    std::erase_if(asks, [only](const Ask& ask) { return ask.work.kind != only; });
    if (asks.empty()) {
      throw Error({"steploom-measure", "--only", "a kind with points in the list",
                   fmt::format("'{}'", options.only), ""});
    }
  }
  if (device_count() == 0) {
    throw Error({"steploom-measure", "", "a CUDA device and its driver", "none", ""});
  }
  const auto start = Clock::now();
  const DeviceFacts facts = device_facts();
  const Nvml nvml(facts.pci);
  const Libraries libraries;
  const MeasuringStream stream;
  const Bytes rotate = facts.l2 * 5 / 2;
  Output out(options.out);
  out.line(to_line(describe(facts, nvml, command)));
  if (!options.prove_only) {
    for (const MeasuredOther& other : measure_launches(stream.get())) out.line(to_line(other));
    for (const MeasuredOther& other : measure_copies(nvml, stream.get())) out.line(to_line(other));
  }
  std::size_t done = 0;
  int faults = 0;
  for (const Ask& ask : asks) {
    const double minutes = std::chrono::duration<double>(Clock::now() - start).count() / 60;
    if (minutes > options.budget_minutes) break;
    const MeasuredPoint point = measure_one(ask, options, libraries, nvml, rotate, stream.get());
    out.line(to_line(point));
    ++done;
    const bool fault = point.note.starts_with("wrong") || point.note.starts_with("failed");
    if (fault) ++faults;
    if (fault || point.note.starts_with("skipped")) {
      fmt::print(stderr, "{}: {}\n", to_text(ask), point.note);
    }
    if (done % 50 == 0) {
      fmt::print(stderr, "{} of {} points, {:.1f} of {:.1f} minutes\n", done, asks.size(), minutes,
                 options.budget_minutes);
    }
  }
  fmt::print(stderr, "{} of {} points in {}, {} wrong or failed\n", done, asks.size(), options.out,
             faults);
  return static_cast<int>(faults > 0 ? ExitStatus::negative : ExitStatus::done);
}

}  // namespace
}  // namespace steploom

int main(int argc, char** argv) {
  steploom::Options options;
  CLI::App app{"Times kernels on the GPU at hand; one file of measured points"};
  app.add_option("--points", options.list, "File: one point a line, as profiler/asks.h has it");
  app.add_option("--only", options.only, "Only the points of this kind");
  app.add_option("--budget", options.budget_minutes, "Minutes after which no point is begun")
      ->check(CLI::Range(0.1, 600.0));
  app.add_option("-o,--out", options.out, "JSON-lines file to write");
  app.add_flag("--prove", options.prove_only, "Only check what the kernels compute");
  std::string command = "steploom-measure";
  for (int i = 1; i < argc; ++i) command += std::string(" ") + argv[i];
  try {
    app.parse(argc, argv);
    return steploom::run(options, command);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(steploom::ExitStatus::refused);
  } catch (const steploom::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.status());
  } catch (const std::exception& error) {
    fmt::print(stderr, "steploom-measure: {}\n", error.what());
    return static_cast<int>(steploom::ExitStatus::negative);
  }
}
