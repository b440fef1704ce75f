#include "tools/present_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "models/error.h"
#include "models/layout_rules.h"
#include "models/megatron_flags.h"
#include "planner/differences.h"
#include "planner/make_plan.h"
#include "tools/plan_report.h"
#include "traces/units.h"

namespace steploom {
namespace {

void list_flags(Report& report, const char* what, const std::vector<std::string>& flags) {
  if (flags.empty()) return;
  report.note(fmt::format("{}: {}", what, fmt::join(flags, " · ")));
}

bool same(const MegatronArgs& a, const MegatronArgs& b) {
  return a.args == b.args && a.environment == b.environment;
}

}  // namespace

std::optional<PlanRow> add_present_run(Report& report, const MegatronQuestion& run,
                                       const Question& question, const Plan& plan) {
  std::optional<PlanRow> present;
  const Setting& best = question.setting();
  const Setting now = best.with_runtime(run.runtime);
  const Layout layout = parse_layout(run.layout, best.cluster.devices(), best.model.has_moe());
  const PlanRow& chosen = plan.rows.front();
  if (const auto refusal = refuse({now.model, now.work, layout, now.cluster.devices(), &now.runtime,
                                   now.cluster.devices_per_node})) {
    report.note(fmt::format("the run itself: rule \"{}\": {}", refusal->rule, refusal->message));
  } else {
    CostCache costs(now.costs);
    const Lowered lowered = lower(now, layout, costs);
    const Candidate own = evaluate(now, layout, costs);
    const PlanRow row = describe(now, own, lowered);
    present = row;
    report.add("present", "The run as it is:", rows_table({row}, false));
    Table t({{"what"},
             {"run"},
             {"plan"},
             {"step, this alone changed", CellKind::time, 0, "", "step_ps"},
             {"saves", CellKind::time},
             {"of the step", CellKind::share, 0, "", "share"},
             {"alone"}});
    for (const Difference& d : differences({now, layout}, {best, chosen.layout}, costs)) {
      std::vector<Cell> cells{d.what, d.now, d.then, {}, {}, {}, std::string()};
      if (d.step) {
        const Picoseconds saved = row.step - *d.step;
        cells[3] = *d.step;
        cells[4] = saved;
        cells[5] = static_cast<double>(saved) / static_cast<double>(row.step);
        cells[6] = std::string(d.fits ? "" : "out of memory");
      } else {
        cells[6] = "breaks \"" + d.refusal + "\"";
      }
      t.add(std::move(cells));
    }
    if (!t.rows().empty())
      report.add("differences",
                 "What each difference to the best plan buys by itself:", std::move(t));
    if (!own.fits())
      report.warn(fmt::format("the run as it is needs {} of {}", bytes_text(own.memory),
                              bytes_text(own.limit)));
    report.note(
        fmt::format("the plan's step is {} of the run's, {} shorter",
                    share_text(static_cast<double>(chosen.step) / static_cast<double>(row.step)),
                    time_text(row.step - chosen.step)));
  }
  list_flags(report, "not modelled", run.not_modelled);
  list_flags(report, "unknown flags", run.unknown);
  for (const std::string& note : run.notes) report.note(note);
  return present;
}

Report folder_report(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  if (files.empty()) throw Error({folder.string(), "", "files with Megatron's flags", "none", ""});

  Report report(folder.string());
  Table t({{"file"},
           {"flags", CellKind::integer},
           {"not modelled", CellKind::integer},
           {"unknown", CellKind::integer},
           {"written again"},
           {"layout, or why not"}});
  std::int64_t read = 0;
  std::int64_t lossless = 0;
  std::vector<std::string> unknown;
  for (const auto& file : files) {
    const std::string name = file.filename().string();
    try {
      const MegatronArgs args = load_megatron_args(file);
      const MegatronRun run(args);
      const bool kept = same(args, parse_megatron_shell(to_shell(args), name)) &&
                        same(args, parse_megatron_yaml(to_yaml(args), name));
      lossless += kept;
      const auto strange = run.unknown();
      unknown.insert(unknown.end(), strange.begin(), strange.end());
      std::string what;
      try {
        what = from_megatron(args, file.stem().string()).layout;
        ++read;
      } catch (const Error& e) {
        what = e.what();
      }
      t.add({name, static_cast<std::int64_t>(args.args.size()),
             static_cast<std::int64_t>(run.not_modelled().size()),
             static_cast<std::int64_t>(strange.size()), std::string(kept ? "the same" : "differs"),
             std::move(what)});
    } catch (const Error& e) {
      t.add({name, {}, {}, {}, {}, std::string(e.what())});
    }
  }
  report.add("files", "", std::move(t));
  report.value("read", read);
  report.value("lossless", lossless);
  report.note(
      fmt::format("{} files · {} read into a model and a layout · {} written again without loss",
                  files.size(), read, lossless));
  std::sort(unknown.begin(), unknown.end());
  unknown.erase(std::unique(unknown.begin(), unknown.end()), unknown.end());
  list_flags(report, "unknown flags", unknown);
  return report;
}

}  // namespace steploom
