// steploom profile import: collectives that others' tools measured, as curves of a profile.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <set>
#include <string_view>
#include <tuple>
#include <vector>

#include "models/error.h"
#include "models/nearest.h"
#include "profiler/import_curves.h"
#include "profiler/profile_of_points.h"
#include "tools/profile_verbs.h"
#include "tools/report.h"
#include "traces/nccl_tests.h"

namespace steploom {
namespace {

struct Flags {
  std::string tool;
  std::vector<std::string> files;
  std::string collective;
  std::string base;
  std::string output;
  bool in_place = false;
  std::string format = "table";
};

MeasuredCurve curve_of(const NcclTestsRun& run, bool in_place) {
  MeasuredCurve curve{run.collective, run.ranks, run.nodes, {}, {}, ""};
  for (const NcclTestsRow& row : run.rows) {
    const double us = in_place ? row.in_place : row.out_of_place;
    if (us <= 0)
      throw Error(
          {run.reading, "",
           fmt::format("a time {} for {} bytes", in_place ? "in place" : "out of place", row.bytes),
           "none", in_place ? "" : "take the others with --in-place"});
    curve.bytes.push_back(static_cast<double>(row.bytes));
    curve.us.push_back(us);
  }
  curve.source = "nccl-tests" + (run.tests.empty() ? "" : " " + run.tests);
  if (!run.nccl.empty()) curve.source += ", NCCL " + run.nccl;
  if (!run.device.empty()) curve.source += ", " + run.device;
  curve.source += ", " + run.type + (run.redop.empty() ? "" : " " + run.redop);
  curve.source += fmt::format(", {}; {}", in_place ? "in place" : "out of place",
                              std::filesystem::path(run.reading).filename().string());
  return curve;
}

// A curve's device must be the profile's; its SMs are not printed.
void must_fit(const NcclTestsRun& run, const Profile& base) {
  if (run.device.empty() || fits(base.device, run.device, base.device.sms)) return;
  throw Error({run.reading, "", "devices like the profile's, " + base.device.name,
               "'" + run.device + "'", "name the profile of that device with --base"});
}

ExitStatus run(const Flags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  constexpr std::array<std::string_view, 1> kTools{"nccl-tests"};
  if (f.tool != kTools[0])
    throw Error(
        {"command line", "", "nccl-tests", "'" + f.tool + "'", nearest_hint(f.tool, kTools)});
  Profile profile = load_profile(f.base);
  Table t({{"collective"},
           {"ranks", CellKind::integer},
           {"nodes", CellKind::integer},
           {"sizes", CellKind::integer},
           {"from", CellKind::bytes},
           {"to", CellKind::bytes},
           {"made to rise", CellKind::integer},
           {"most moved", CellKind::share},
           {"was there"}});
  std::set<std::tuple<OpKind, int, int>> seen;
  for (const std::string& file : f.files)
    for (const NcclTestsRun& run : read_nccl_tests(file, f.collective)) {
      must_fit(run, profile);
      if (!seen.insert({run.collective, run.ranks, run.nodes}).second)
        throw Error({file, "", "one run for each collective, ranks and nodes",
                     fmt::format("a second one of {} with {} ranks on {} nodes",
                                 name_of(run.collective), run.ranks, run.nodes),
                     ""});
      const MeasuredCurve curve = curve_of(run, f.in_place);
      const LaidCurve laid = lay_curve(profile, curve);
      profile.software.push_back(fmt::format("{}, {} ranks on {} nodes: {}",
                                             name_of(run.collective), run.ranks, run.nodes,
                                             curve.source));
      t.add({std::string(name_of(run.collective)), std::int64_t{run.ranks}, std::int64_t{run.nodes},
             static_cast<std::int64_t>(curve.bytes.size()),
             static_cast<std::int64_t>(curve.bytes.front()),
             static_cast<std::int64_t>(curve.bytes.back()), std::int64_t{laid.joined},
             laid.most_moved, std::string(laid.replaced ? "yes" : "no")});
    }
  profile.made = "steploom profile import nccl-tests, on the profile " + profile.name + " (" +
                 profile.digest + ")";
  save_profile(profile, f.output);
  Report report(fmt::format("{} curve(s) into {}", t.rows().size(), f.output));
  report.add("curves", "", std::move(t));
  report.print(format);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_profile_import(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("tool", f->tool, "nccl-tests")->required();
  app.add_option("files", f->files, "What it printed, or wrote with -J; one or more")->required();
  app.add_option("--base", f->base, "Profile to put the curves into: built-in name or JSON file")
      ->required();
  app.add_option("-o,--output", f->output, "The profile to write")->required();
  app.add_option("--collective", f->collective,
                 "Which test it was, for releases that do not print it: all_reduce, ...");
  app.add_flag("--in-place", f->in_place, "Take the in-place times (default: out of place)");
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
