// steploom profile check: how far a profile is from measured points.
//
// Of a profile, its own points: each predicted by corrections fitted to all the others of its kind
// and phase. Of a raw file, the profile as it is against the file's points; with the raw file of
// collectives beside it, by classes that hold both, and whether the two are a draw.
#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "models/error.h"
#include "profiler/compare.h"
#include "profiler/fit_corrections.h"
#include "profiler/held_out.h"
#include "profiler/profile_of_points.h"
#include "tools/profile_verbs.h"
#include "tools/report.h"

namespace steploom {
namespace {

struct Flags {
  std::string subject;
  std::string profile;
  std::string collectives;
  std::int64_t draw = 0;
  std::uint64_t seed = 0;
  std::string format = "table";
};

ExitStatus check_profile(const std::string& name, TableFormat format) {
  const Profile p = load_profile(name);
  if (p.points.kernels.empty())
    throw Error({name, "/points", "a profile with measured points", "none",
                 "its errors are those of `steploom profile show`; to check it against a raw file: "
                 "steploom profile check FILE.points.jsonl --profile " +
                     name});
  Table t({{"predicted from the others"},
           {"points", CellKind::integer},
           {"median error", CellKind::share},
           {"95th percentile", CellKind::share},
           {"worst", CellKind::share}});
  for (const LeaveOut& e : leave_one_out(p, cluster_for(p), measured_points(p.points)))
    t.add({e.what, e.points, e.median, e.p95, e.worst});
  Report report(
      fmt::format("{} · {} points, {}", p.name, p.points.kernels.size(), p.points.on.gpu));
  report.add("classes", "", std::move(t));
  report.note(fmt::format("classes of fewer than {} points are left out", kLeastPoints));
  report.print(format);
  return ExitStatus::done;
}

Table classes_table(const std::vector<ClassError>& classes) {
  Table t({{"predicted/measured - 1"},
           {"points", CellKind::integer},
           {"bias", CellKind::share},
           {"median", CellKind::share},
           {"95th percentile", CellKind::share},
           {"worst", CellKind::share},
           {"worst at"}});
  for (const ClassError& c : classes)
    t.add({c.what, c.points, c.bias, c.median, c.p95, c.worst, c.worst_point});
  return t;
}

Table providers_table(const std::vector<ProviderWins>& wins) {
  Table t({{"grouped product"},
           {"provider"},
           {"shapes", CellKind::integer},
           {"fastest", CellKind::integer},
           {"median slower", CellKind::share}});
  for (const ProviderWins& w : wins)
    t.add({w.what, w.provider, w.shapes, w.fastest, w.median_slower});
  return t;
}

Table worst_table(const std::vector<PointError>& worst) {
  Table t({{"predicted/measured - 1", CellKind::share}, {"at"}});
  for (const PointError& e : worst) t.add({e.error, e.point});
  return t;
}

ExitStatus check_held_out(const Flags& f, const Measurements& measured, const Profile& profile,
                          const CostModel& model, Report report, TableFormat format) {
  const CollectivePoints collectives = load_collective_points(f.collectives);
  if (!fits(profile.device, collectives.gpu, collectives.sms))
    throw Error({f.collectives, "/gpu", fmt::format("collectives of {}", profile.device.name),
                 fmt::format("'{}' with {} SMs", collectives.gpu, collectives.sms), ""});
  const HeldOut held = held_out(measured.points, collectives, profile, model);
  report.add("classes", "", classes_table(held.classes));
  report.add("worst", "The worst points:", worst_table(held.worst));
  report.note(fmt::format("{}: {} ranks, {}, NCCL {}, {}{}", collectives.reading, collectives.ranks,
                          collectives.fabric, collectives.nccl, collectives.date,
                          collectives.complete ? "" : ", not run to its end"));
  if (f.draw > 0) {
    const DrawCheck check = check_draw(drawn_asks(f.draw, f.seed), measured.points, collectives);
    report.note(fmt::format("draw of {} points, seed {}: {} of {} measured, {} others", f.draw,
                            f.seed, check.measured, check.drawn, check.others));
  }
  report.print(format);
  return ExitStatus::done;
}

ExitStatus check_points(const Flags& f, TableFormat format) {
  const Measurements measured = read_points(f.subject);
  const MeasuredOn& on = measured.on;
  const Profile profile =
      f.profile.empty() ? fitting_profile(on.gpu, on.sms, "--profile") : load_profile(f.profile);
  if (!fits(profile.device, on.gpu, on.sms))
    throw Error({f.subject, "/gpu", fmt::format("points of {}", profile.device.name),
                 fmt::format("'{}' with {} SMs", on.gpu, on.sms), ""});
  const CostModel model(profile, cluster_for(profile));
  Report report(fmt::format("{}: {}, driver {}, CUDA {}, cuBLAS {}, {}\nprofile {} ({})",
                            measured.reading, on.gpu, on.driver, on.cuda_runtime, on.cublas,
                            on.date, profile.name, profile.digest));
  if (!f.collectives.empty())
    return check_held_out(f, measured, profile, model, std::move(report), format);
  const Comparison comparison = compare_points(measured.points, model);
  report.add("classes", "", classes_table(comparison.classes));
  const std::vector<ProviderWins> wins = provider_wins(measured.points);
  if (!wins.empty())
    report.add("providers",
               "Grouped products of two groups and more, by provider:", providers_table(wins));
  if (comparison.skipped > 0)
    report.note(fmt::format("{} points without a time left out", comparison.skipped));
  report.print(format);
  return ExitStatus::done;
}

ExitStatus run(const Flags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  if (is_points_file(f.subject)) return check_points(f, format);
  if (!f.profile.empty())
    throw Error({"command line", "--profile", "a file of raw points to check it against",
                 "'" + f.subject + "'", ""});
  if (!f.collectives.empty())
    throw Error({"command line", "--collectives", "a file of raw points of kernels with it",
                 "'" + f.subject + "'", ""});
  return check_profile(f.subject, format);
}

}  // namespace

RunVerb prepare_profile_check(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("subject", f->subject, "Profile (name or JSON file), or raw points (.jsonl)")
      ->required();
  app.add_option("--profile", f->profile,
                 "Profile to hold raw points against (default: the built-in one that fits)");
  auto* collectives =
      app.add_option("--collectives", f->collectives,
                     "Raw collectives beside the raw points: one table by class over both");
  auto* draw = app.add_option("--draw", f->draw, "The draw that both should be: its points")
                   ->needs(collectives);
  auto* seed = app.add_option("--seed", f->seed, "The draw's seed")->needs(draw);
  draw->needs(seed);
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
