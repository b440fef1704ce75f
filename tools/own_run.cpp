#include "tools/own_run.h"

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <utility>

#include "models/error.h"
#include "planner/lower.h"
#include "planner/ranks.h"
#include "sim/calibration_fit.h"
#include "sim/engine.h"
#include "sim/profile.h"
#include "sim/step_clock.h"
#include "traces/load_timeline.h"
#include "traces/text_file.h"
#include "traces/units.h"

namespace steploom {

void add_measured_flag(CLI::App& verb, std::optional<Picoseconds>& measured) {
  verb.add_option_function<std::string>(
          "--measured",
          [&measured](const std::string& text) { measured = parse_time(text, "--measured"); },
          "What a step of the run takes, 13.75s or 412ms: shown beside its prediction")
      ->type_name("TIME");
}

void add_measured(Report& report, const MeasuredStep& step) {
  Table t({{"layout"},
           {"predicted", CellKind::time},
           {"measured", CellKind::time},
           {"difference", CellKind::time},
           {"error", CellKind::share}});
  t.add({short_name(step.layout), step.predicted, step.measured, step.predicted - step.measured,
         step.error()});
  report.add("measured",
             fmt::format("Predicted beside measured; the prediction is {:+.1f} % off:",
                         step.error() * 100),
             std::move(t));
}

void add_calibrate_flag(CLI::App& verb, std::string& trace) {
  verb.add_option("--calibrate", trace,
                  "A PyTorch profiler's trace of one rank of the run (.json or .json.gz): fits a "
                  "factor for each class of operators, and the host's time for a launch")
      ->type_name("TRACE");
}

Calibration fit_to_trace(const std::string& trace, const Setting& s, const Layout& layout,
                         std::vector<std::string>& notes) {
  need_one_type(s.cluster, "a calibration");
  const LoadedTimeline loaded = load_timeline(trace);
  const Timeline& measured = loaded.timeline;
  if (measured.origin.source != TimelineSource::imported)
    throw Error({trace, "", "a trace of the PyTorch profiler",
                 "a timeline that was " + std::string(name_of(measured.origin.source)), ""});
  if (measured.devices.size() != 1)
    throw Error({trace, "", "a trace of one rank",
                 fmt::format("kernels of {} devices", measured.devices.size()), ""});
  const int world = s.cluster.devices(), rank = loaded.rank.value_or(0);
  if (loaded.world.value_or(world) != world || rank >= world)
    throw Error({trace, "/distributedInfo", fmt::format("one of {} ranks", world),
                 fmt::format("rank {} of {}", rank, loaded.world.value_or(world)),
                 "--nodes and --gpus say how many ranks there are"});
  notes.insert(notes.end(), loaded.notes.begin(), loaded.notes.end());
  CostCache costs(s.costs);
  Lowered lowered = lower(s, layout, costs);
  const Replay replayed = replay_at_clock(lowered.program, s.replaying());
  const Timeline predicted = make_timeline(lowered.program, replayed);
  const int stage = rank_table(s.model, layout, s.cluster).stage.at(static_cast<std::size_t>(rank));
  Calibration c = fit_calibration(measured, predicted, stage, s.runtime.launch, trace);
  constexpr std::size_t kMostBytes = std::size_t{64} << 20;  // as load_timeline
  c.trace = std::filesystem::path(trace).filename().string();
  c.trace_digest = digest_of(read_text_file(trace, kMostBytes));
  return c;
}

void add_calibration(Report& report, const Calibration& c) {
  Table t({{"class"},
           {"predicted", CellKind::time},
           {"in the trace", CellKind::time, 0, "", "measured_ps"},
           {"factor", CellKind::number, 3},
           {"why none"}});
  for (int i = 0; i < kOpClasses; ++i) {
    const auto which = static_cast<OpClass>(i);
    const CalibratedClass& of = c.classes[static_cast<std::size_t>(i)];
    if (of.predicted == 0 && of.measured == 0) continue;
    std::vector<Cell> row{
        std::string(name_of(which)), of.predicted, of.measured, {}, std::string()};
    if (c.has_factor(which))
      row[3] = c.factor(which);
    else
      row[4] = std::string(of.measured == 0 ? "not in the trace" : "not in the prediction");
    t.add(std::move(row));
  }
  std::vector<Cell> launch{std::string("a launch by the host"),
                           c.assumed_launch,
                           {},
                           {},
                           std::string("not in the trace")};
  if (c.launch > 0)
    launch = {std::string("a launch by the host"), c.assumed_launch, c.launch,
              static_cast<double>(c.launch) / static_cast<double>(c.assumed_launch), std::string()};
  t.add(std::move(launch));
  report.add("calibration",
             fmt::format("Calibrated on {}, a step of {} (predicted before: {}); kernels' time a "
                         "step, messages of the pipeline left out:",
                         c.trace, time_text(c.step), time_text(c.predicted_step)),
             std::move(t));
}

}  // namespace steploom
