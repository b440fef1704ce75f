// profile-check: how far a profile's predictions are from files of measured points; and the draw of
// points to test a profile on.
#include <fmt/format.h>
#include <fmt/ostream.h>

#include <CLI/CLI.hpp>
#include <ostream>
#include <string>

#include "models/atomic_file.h"
#include "models/error.h"
#include "profiler/compare.h"
#include "profiler/drawn_asks.h"
#include "profiler/held_out.h"
#include "sim/cluster.h"
#include "sim/cost_model.h"
#include "sim/profile.h"

namespace steploom {
namespace {

struct Options {
  std::string file;
  std::string profile = "h200-sxm-141gb";
  std::string collectives;
  std::int64_t draw = 0;
  std::uint64_t seed = 0;
  std::string out;
};

void print_heading(const Measurements& measured, const Profile& profile) {
  fmt::print("{}: {}, driver {}, CUDA {}, cuBLAS {}, {}\n", measured.reading, measured.on.gpu,
             measured.on.driver, measured.on.cuda_runtime, measured.on.cublas, measured.on.date);
  fmt::print("profile {} ({})", profile.name, profile.digest);
}

void print_table(const std::vector<ClassError>& classes) {
  fmt::print("{:<40} {:>6} {:>8} {:>8} {:>8} {:>8}  {}\n", "predicted/measured - 1", "points",
             "bias", "median", "95th", "worst", "worst at");
  for (const ClassError& c : classes) {
    fmt::print("{:<40} {:>6} {:>+7.1f}% {:>7.1f}% {:>7.1f}% {:>7.1f}%  {}\n", c.what, c.points,
               100 * c.bias, 100 * c.median, 100 * c.p95, 100 * c.worst, c.worst_point);
  }
}

void print(const Measurements& measured, const Profile& profile, const Comparison& comparison) {
  print_heading(measured, profile);
  fmt::print("; {} points without a time left out\n\n", comparison.skipped);
  print_table(comparison.classes);
  fmt::print("\n{:<40} {:<16} {:>7} {:>8} {:>14}\n", "grouped products, two groups and more",
             "provider", "shapes", "fastest", "median slower");
  for (const ProviderWins& w : provider_wins(measured.points)) {
    fmt::print("{:<40} {:<16} {:>7} {:>8} {:>13.1f}%\n", w.what, w.provider, w.shapes, w.fastest,
               100 * w.median_slower);
  }
}

void check_held_out(const Options& options, const Measurements& measured, const Profile& profile,
                    const CostModel& model) {
  const CollectivePoints collectives = load_collective_points(options.collectives);
  print_heading(measured, profile);
  fmt::print("\n{}: {} ranks, {}, NCCL {}, {}{}\n", collectives.reading, collectives.ranks,
             collectives.fabric, collectives.nccl, collectives.date,
             collectives.complete ? "" : ", not run to its end");
  if (options.draw > 0) {
    const DrawCheck check =
        check_draw(drawn_asks(options.draw, options.seed), measured.points, collectives);
    fmt::print("draw of {} points, seed {}: {} of {} measured, {} others\n", options.draw,
               options.seed, check.measured, check.drawn, check.others);
  }
  const HeldOut held = held_out(measured.points, collectives, profile, model);
  fmt::print("\n");
  print_table(held.classes);
  fmt::print("\nthe worst\n");
  for (const PointError& e : held.worst) fmt::print("{:>+7.1f}%  {}\n", 100 * e.error, e.point);
}

template <class List>
void write_list(const std::string& path, const Options& options, const List& list) {
  write_file_atomically(path, [&](std::ostream& out) {
    fmt::print(out, "# profile-check --draw {} --seed {}\n", options.draw, options.seed);
    for (const auto& ask : list) out << to_text(ask) << '\n';
  });
}

void run(const Options& options) {
  if (options.file.empty()) {
    const DrawnAsks drawn = drawn_asks(options.draw, options.seed);
    write_list(options.out + ".asks", options, drawn.kernels);
    write_list(options.out + ".collectives", options, drawn.collectives);
    return;
  }
  const Measurements measured = read_points(options.file);
  const Profile profile = load_profile(options.profile);
  const Cluster cluster = load_cluster(profile.device.name, 1);
  const CostModel model(profile, cluster);
  if (options.collectives.empty()) {
    print(measured, profile, compare_points(measured.points, model));
  } else {
    check_held_out(options, measured, profile, model);
  }
}

}  // namespace
}  // namespace steploom

int main(int argc, char** argv) {
  steploom::Options options;
  CLI::App app{
      "Compares a profile with measured points, by class of kernel\n\n"
      "  profile-check POINTS                       a table by kind and phase\n"
      "  profile-check --draw N --seed S -o NAME    draws points to measure: NAME.asks for\n"
      "                                             steploom-measure, NAME.collectives for\n"
      "                                             steploom-measure-collectives\n"
      "  profile-check POINTS --collectives FILE    a table by class over such points"};
  auto* file = app.add_option("points", options.file, "File that steploom-measure wrote");
  app.add_option("--profile", options.profile, "Built-in profile or JSON file");
  app.add_option("--collectives", options.collectives,
                 "File that steploom-measure-collectives wrote: the table by class")
      ->needs(file);
  auto* draw = app.add_option("--draw", options.draw,
                              "Points to draw; with POINTS: the draw that they should be");
  auto* seed = app.add_option("--seed", options.seed, "Of the draw")->needs(draw);
  draw->needs(seed);
  auto* out = app.add_option("-o,--out", options.out, "Where the draw's two lists go")->needs(draw);
  out->excludes(file);
  try {
    app.parse(argc, argv);
    if (options.file.empty() && options.out.empty()) {
      throw CLI::RequiredError("points, or --draw with --out");
    }
    if (!options.file.empty() && draw->count() > 0 && options.collectives.empty()) {
      throw CLI::RequiredError("--collectives, with a draw and points");
    }
    if (draw->count() > 0) steploom::drawn_asks(options.draw, options.seed);  // refuses nonsense
    steploom::run(options);
    return static_cast<int>(steploom::ExitStatus::done);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(steploom::ExitStatus::refused);
  } catch (const steploom::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.status());
  }
}
