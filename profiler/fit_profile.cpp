// fit_profile: the built-in profile of a GPU from measured tables (docs/accuracy.md).
//
// Reads a directory of tables, fits the surfaces and curves of sim/profile.h, writes them as JSON
// and prints the leave-out errors: how wrong the fit is on points that it has not seen. Fabrics
// (sim/profile_fabric.h) are laid over any profile from the lines of
// `steploom profile collectives`.
#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "models/atomic_file.h"
#include "models/error.h"
#include "profiler/fabric_errors.h"
#include "profiler/fit_corrections.h"
#include "profiler/fit_fabric.h"
#include "profiler/fit_gaps.h"
#include "profiler/fit_grouped.h"
#include "profiler/fit_kernels.h"
#include "profiler/fit_measured.h"
#include "profiler/fit_table.h"
#include "sim/cluster.h"
#include "sim/profile.h"

namespace steploom {
namespace {

// What backward attention reaches, of the forward rate: FlashAttention-3 on an H100 SXM5, bf16,
// head width 128, not causal, TFLOP/s read off figures 5 and 6 of arXiv 2407.08608.
struct AttentionRates {
  double tokens;
  double forward;
  double backward;
};
constexpr std::array<AttentionRates, 6> kFlashAttention3{{{512, 467, 316},
                                                          {1024, 565, 424},
                                                          {2048, 625, 501},
                                                          {4096, 638, 542},
                                                          {8192, 646, 559},
                                                          {16384, 648, 561}}};

Grid attention_backward() {
  std::vector<double> knots;
  std::vector<Point> points;
  for (const AttentionRates& r : kFlashAttention3) knots.push_back(r.tokens);
  const Axis axis = make_axis("tokens", knots);
  for (std::size_t i = 0; i < kFlashAttention3.size(); ++i) {
    const AttentionRates& r = kFlashAttention3[i];
    points.push_back({{axis.log2_knots[i]}, r.forward, r.backward});
  }
  return fit_points({axis}, points, {0, 1e-9});
}

Profile fit(const std::filesystem::path& tables, const std::string& gpu, const std::string& date) {
  const DeviceType device = load_cluster(gpu, 1).device;
  Profile p;
  p.name = gpu;
  p.device = {gpu, device.sms, device.peak_flops, device.memory_bandwidth};
  p.source =
      "NVIDIA aiconfigurator (github.com/ai-dynamo/aiconfigurator, commit 095f58a), systems/data: "
      "measured medians; memory-bound kernels from the same project's system file; backward "
      "attention from FlashAttention-3 (arXiv 2407.08608), figures 5 and 6";
  p.attribution = "Copyright NVIDIA Corporation and affiliates; Apache-2.0";
  p.made = "fit_profile --tables DIR --gpu " + gpu + "; see docs/accuracy.md";
  p.date = date;
  p.software = {"TensorRT-LLM 1.3.0rc20 (dense products)", "NCCL 2.29.2"};
  p.attention_backward = attention_backward();
  p.memory = {0.8, 3};  // mem_bw_empirical_scaling_factor, mem_empirical_constant_latency
  fit_matmul(p, read_table(tables / ("gemm_" + gpu + ".csv.gz")));
  fit_grouped(p, read_table(tables / "moe_forward_bf16.csv.gz"));
  fit_attention(p, read_table(tables / "attention_forward_causal.csv.gz"));
  fit_collectives(p, read_table(tables / "nccl_single_node.csv"));
  return p;
}

void print(const Profile& p) {
  std::printf("%s, points left out of the fit, |predicted/measured - 1|\n", p.name.c_str());
  std::printf("%-62s %6s %8s %8s %8s\n", "class", "n", "median", "95th", "worst");
  for (const LeaveOut& l : p.leave_out) {
    std::printf("%-62s %6lld %7.2f%% %7.2f%% %7.2f%%\n", l.what.c_str(),
                static_cast<long long>(l.points), 100 * l.median, 100 * l.p95, 100 * l.worst);
  }
}

std::vector<CollectivePoints> load_all(const std::vector<std::string>& files) {
  std::vector<CollectivePoints> all;
  for (const std::string& file : files) all.push_back(load_collective_points(file));
  return all;
}

// Errors on lines that the fabrics were not made from, over the fabric of each file.
void print_held_out(const Profile& p, const std::vector<CollectivePoints>& files) {
  constexpr Bytes kLeast = 64 << 10;
  for (const CollectivePoints& points : files) {
    Cluster cluster = load_cluster(p.device.name, 1);
    use_gpus(cluster, points.ranks);
    use_fabric(cluster, points.fabric);
    std::printf("\n%s: collectives of 64 KiB and more; rates beside each other, replayed\n",
                points.reading.c_str());
    std::printf("%-62s %6s %8s %8s %8s\n", "what", "n", "median", "95th", "bias");
    for (const FabricError& e : fabric_errors(points, p, cluster, kLeast))
      std::printf("%-62s %6d %7.2f%% %7.2f%% %+7.2f%%\n", e.what.c_str(), e.points, 100 * e.median,
                  100 * e.p95, 100 * e.bias);
  }
}

Profile base(const std::string& file, const std::string& tables, const std::string& gpu,
             const std::string& date) {
  if (!file.empty()) return load_profile(file);
  if (gpu.empty()) throw Error({"command line", "", "--gpu, or --profile", "neither", ""});
  return tables.empty() ? built_in_profile(gpu) : fit(tables, gpu, date);
}

std::string today() {
  const std::chrono::year_month_day date(
      std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now()));
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02u", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  return text.data();
}

int run(int argc, char** argv) {
  CLI::App app{"Fit a profile to measured tables and print its leave-out errors"};
  std::string tables, gpu, profile_file, out, date = today();
  std::vector<std::string> points, fabrics, gaps, held_out;
  bool keep_points = false;
  app.add_option("--tables", tables,
                 "directory of the measured tables; none: keep the built-in fit");
  app.add_option("--gpu", gpu, "device name, as of the built-in clusters");
  app.add_option("--profile", profile_file, "the profile to begin with (JSON) in place of --gpu")
      ->excludes("--tables");
  app.add_option("--points", points,
                 "raw points of `steploom profile` to fit corrections to, all together");
  app.add_flag("--keep-points", keep_points, "put the points themselves into the profile too");
  app.add_option("--fabric", fabrics,
                 "raw lines of `steploom profile collectives` to fit fabrics to");
  app.add_option(
      "--gaps", gaps,
      "raw lines of `steploom profile gaps`: gaps of the first with chains, memory of all");
  app.add_option("--held-out", held_out, "such lines to print the fabrics' errors on");
  app.add_option("-o,--output", out, "the profile to write; none: print errors only");
  app.add_option("--date", date, "date to put into the profile (ISO 8601)");
  CLI11_PARSE(app, argc, argv);
  Profile profile = base(profile_file, tables, gpu, date);
  if (!points.empty()) {
    std::vector<Measurements> measured;
    for (const std::string& file : points) measured.push_back(read_points(file));
    clear_corrections(profile);
    lay_points(profile, measured, keep_points);
  }
  if (!fabrics.empty()) add_fabrics(profile, load_all(fabrics));
  std::vector<GapPoints> measured_gaps;
  for (const std::string& file : gaps) measured_gaps.push_back(load_gap_points(file));
  if (!gaps.empty()) add_gaps(profile, measured_gaps);
  print(profile);
  print_held_out(profile, load_all(held_out));
  if (!out.empty())
    write_file_atomically(out, [&](std::ostream& file) { file << to_json(profile); });
  return 0;
}

}  // namespace
}  // namespace steploom

int main(int argc, char** argv) {
  try {
    return steploom::run(argc, argv);
  } catch (const steploom::Error& error) {
    std::fprintf(stderr, "fit_profile: %s\n", error.what());
    return static_cast<int>(error.status());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fit_profile: %s\n", error.what());
    return 2;
  }
}
