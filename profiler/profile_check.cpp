// profile-check: how far a profile's predictions are from a file of measured points.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

#include "models/error.h"
#include "profiler/compare.h"
#include "sim/cluster.h"
#include "sim/cost_model.h"
#include "sim/profile.h"

namespace steploom {
namespace {

void print(const Measurements& measured, const Profile& profile, const Comparison& comparison) {
  fmt::print("{}: {}, driver {}, CUDA {}, cuBLAS {}, {}\n", measured.reading, measured.on.gpu,
             measured.on.driver, measured.on.cuda_runtime, measured.on.cublas, measured.on.date);
  fmt::print("profile {} ({}); {} points without a time left out\n\n", profile.name, profile.digest,
             comparison.skipped);
  fmt::print("{:<40} {:>6} {:>8} {:>8} {:>8} {:>8}  {}\n", "predicted/measured - 1", "points",
             "bias", "median", "95th", "worst", "worst at");
  for (const ClassError& c : comparison.classes) {
    fmt::print("{:<40} {:>6} {:>+7.1f}% {:>7.1f}% {:>7.1f}% {:>7.1f}%  {}\n", c.what, c.points,
               100 * c.bias, 100 * c.median, 100 * c.p95, 100 * c.worst, c.worst_point);
  }
  fmt::print("\n{:<40} {:<16} {:>7} {:>8} {:>14}\n", "grouped products, two groups and more",
             "provider", "shapes", "fastest", "median slower");
  for (const ProviderWins& w : provider_wins(measured.points)) {
    fmt::print("{:<40} {:<16} {:>7} {:>8} {:>13.1f}%\n", w.what, w.provider, w.shapes, w.fastest,
               100 * w.median_slower);
  }
}

void check(const std::string& file, const std::string& name) {
  const Measurements measured = read_points(file);
  const Profile profile = load_profile(name);
  const Cluster cluster = load_cluster(profile.device.name, 1);
  const CostModel model(profile, cluster);
  print(measured, profile, compare_points(measured.points, model));
}

}  // namespace
}  // namespace steploom

int main(int argc, char** argv) {
  std::string file;
  std::string profile = "h200-sxm-141gb";
  CLI::App app{"Compares a profile with measured points, by class of kernel"};
  app.add_option("points", file, "File that steploom-measure wrote")->required();
  app.add_option("--profile", profile, "Built-in profile or JSON file");
  try {
    app.parse(argc, argv);
    steploom::check(file, profile);
    return static_cast<int>(steploom::ExitStatus::done);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(steploom::ExitStatus::refused);
  } catch (const steploom::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.status());
  }
}
