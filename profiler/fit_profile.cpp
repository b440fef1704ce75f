// fit_profile: the built-in profile of a GPU from measured tables (docs/accuracy.md).
//
// Reads a directory of tables, fits the surfaces and curves of sim/profile.h, writes them as JSON
// and prints the leave-out errors: how wrong the fit is on points that it has not seen. Fabrics
// (sim/profile_fabric.h) are laid over any profile from the lines of
// `steploom profile collectives`.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "models/atomic_file.h"
#include "models/error.h"
#include "profiler/fabric_errors.h"
#include "profiler/fit_clock.h"
#include "profiler/fit_corrections.h"
#include "profiler/fit_fabric.h"
#include "profiler/fit_gaps.h"
#include "profiler/fit_grouped.h"
#include "profiler/fit_kernels.h"
#include "profiler/fit_measured.h"
#include "profiler/fit_modelled.h"
#include "profiler/fit_table.h"
#include "profiler/fit_uneven.h"
#include "sim/cluster.h"
#include "sim/expert_loads.h"
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

// What the tables lack of a GPU: the profile to take it over from, or the roofline.
struct Instead {
  std::string like;
  bool roofline = false;
};

// Which versions the tables of a GPU were measured with (those of A100 are older).
std::vector<std::string> software_of(const std::string& gpu) {
  if (gpu == "a100-sxm-80gb") return {"TensorRT-LLM 1.0.0 (dense products)", "NCCL 2.27.3"};
  return {"TensorRT-LLM 1.3.0rc20 (dense products)", "NCCL 2.29.2"};
}

// An option goes where the command ends, before the hint where to read on.
void add_option_made(Profile& p, const std::string& option) {
  p.made.insert(p.made.find(';'), " " + option);
}

// The profile says in words too which parts rest on no measurement.
void describe_modelled(Profile& p, const Instead& instead) {
  if (p.modelled.empty()) return;
  std::string parts;
  for (const ModelledPart part : p.modelled)
    parts += (parts.empty() ? "" : ", ") + std::string(name_of(part));
  const bool all = p.modelled.size() == kModelledParts;
  const std::string how =
      instead.roofline
          ? ", modelled with one efficiency over the roofline (profiler/fit_modelled.h)"
          : ", modelled with the efficiencies of " + instead.like + " over this GPU's roofline";
  p.source = (all ? "no measurement of this GPU: " : p.source + "; no table has this GPU's ") +
             parts + how;
  add_option_made(p, instead.roofline ? "--roofline" : "--like " + instead.like);
  if (!all) return;
  p.software.clear();
  if (instead.roofline) p.attribution = "none: no measurement is behind it";
}

Profile fit(const std::filesystem::path& tables, const std::string& gpu, const std::string& date,
            const Instead& instead) {
  const Cluster cluster = load_cluster(gpu, 1);
  const DeviceType device = cluster.device;
  Profile p;
  p.name = gpu;
  p.device = {gpu, device.sms, device.peak_flops, device.memory_bandwidth, device.bf16};
  p.source =
      "NVIDIA aiconfigurator (github.com/ai-dynamo/aiconfigurator, commit 095f58a), systems/data: "
      "measured medians; memory-bound kernels from the same project's system file; backward "
      "attention from FlashAttention-3 (arXiv 2407.08608), figures 5 and 6";
  p.attribution = "Copyright NVIDIA Corporation and affiliates; Apache-2.0";
  p.made = "fit_profile --tables DIR --gpu " + gpu + "; see docs/accuracy.md";
  p.date = date;
  p.software = software_of(gpu);
  p.attention_backward = attention_backward();
  p.memory = {0.8, 3};  // mem_bw_empirical_scaling_factor, mem_empirical_constant_latency
  // Without --like and --roofline a part that was not measured is refused by its fit.
  const bool filled = instead.roofline || !instead.like.empty();
  const auto part = [&](ModelledPart which, bool measured, auto&& fit_it) {
    if (measured || !filled)
      fit_it();
    else if (instead.roofline)
      model_roofline(p, which, cluster);
    else
      take_over(p, which, load_profile(instead.like));
  };
  const std::filesystem::path gemm = tables / ("gemm_" + gpu + ".csv.gz");
  part(ModelledPart::matmul, std::filesystem::exists(gemm), [&] {
    const MeasuredTable products = read_table(gemm);
    fit_matmul(p, products);
    fit_precisions(p, products, device.peak_of);
  });
  const MeasuredTable moe = read_table(tables / "moe_forward_bf16.csv.gz");
  part(ModelledPart::grouped_matmul, has_rows(moe, gpu, "balanced"), [&] { fit_grouped(p, moe); });
  const MeasuredTable attention = read_table(tables / "attention_forward_causal.csv.gz");
  part(ModelledPart::attention, has_rows(attention, gpu), [&] { fit_attention(p, attention); });
  const MeasuredTable nccl = read_table(tables / "nccl_single_node.csv");
  part(ModelledPart::collectives, has_rows(nccl, gpu), [&] { fit_collectives(p, nccl); });
  describe_modelled(p, instead);
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

// How well uneven experts are predicted, printed and put beside the profile's other errors. A
// surface that was taken over is moved to where the fitted half says.
void add_uneven(Profile& p, const std::string& tables) {
  if (tables.empty()) throw Error({"command line", "--uneven", "--tables", "nothing", ""});
  const MeasuredTable moe = read_table(std::filesystem::path(tables) / "moe_forward_bf16.csv.gz");
  UnevenFit fit = fit_uneven(p, moe);
  std::printf("uneven experts: 2^%.3f on the fitted half\n", fit.octaves);
  if (p.is_modelled(ModelledPart::grouped_matmul)) {
    fit = move_by_rows(p, moe);
    p.source +=
        ", grouped products moved by rows an expert to half of the expert layers of power-law "
        "routing";
  }
  p.leave_out.push_back(fit.kept);
  p.leave_out.push_back(fit.fell_back);
  add_option_made(p, "--uneven");
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
             const std::string& date, const Instead& instead) {
  if (!file.empty()) return load_profile(file);
  if (gpu.empty()) throw Error({"command line", "", "--gpu, or --profile", "neither", ""});
  return tables.empty() ? built_in_profile(gpu) : fit(tables, gpu, date, instead);
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
  std::string tables, gpu, profile_file, power, out, date = today();
  std::vector<std::string> points, fabrics, gaps, held_out;
  bool keep_points = false, uneven = false;
  Instead instead;
  app.add_option("--tables", tables,
                 "directory of the measured tables; none: keep the built-in fit");
  app.add_option("--gpu", gpu, "device name, as of the built-in clusters");
  app.add_option("--profile", profile_file, "the profile to begin with (JSON) in place of --gpu")
      ->excludes("--tables");
  CLI::Option* like =
      app.add_option("--like", instead.like,
                     "what the tables lack of the GPU: take over this profile's efficiencies");
  app.add_flag("--roofline", instead.roofline,
               "what the tables lack of the GPU: one efficiency over the roofline")
      ->excludes(like);
  app.add_flag("--uneven", uneven, "score expert layers of power-law routing too");
  app.add_option("--points", points,
                 "raw points of `steploom profile` to fit corrections to, all together");
  app.add_flag("--keep-points", keep_points, "put the points themselves into the profile too");
  app.add_option("--fabric", fabrics,
                 "raw lines of `steploom profile collectives` to fit fabrics to");
  app.add_option(
      "--gaps", gaps,
      "raw lines of `steploom profile gaps`: gaps of the first with chains, memory of all");
  app.add_option("--power", power,
                 "lines of profiler/torch_power.py: the clock, with the clocks of --points");
  app.add_option("--held-out", held_out, "such lines to print the fabrics' errors on");
  app.add_option("-o,--output", out, "the profile to write; none: print errors only");
  app.add_option("--date", date, "date to put into the profile (ISO 8601)");
  CLI11_PARSE(app, argc, argv);
  Profile profile = base(profile_file, tables, gpu, date, instead);
  if (uneven) add_uneven(profile, tables);
  std::vector<Measurements> measured;
  for (const std::string& file : points) measured.push_back(read_points(file));
  if (!points.empty()) {
    clear_corrections(profile);
    lay_points(profile, measured, keep_points);
  }
  if (!fabrics.empty()) add_fabrics(profile, load_all(fabrics));
  std::vector<GapPoints> measured_gaps;
  for (const std::string& file : gaps) measured_gaps.push_back(load_gap_points(file));
  if (!gaps.empty()) add_gaps(profile, measured_gaps);
  if (!power.empty()) add_clock(profile, power, measured);
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
