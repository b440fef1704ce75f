// steploom simulate: one layout, replayed.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <ostream>
#include <utility>
#include <vector>

#include "planner/explain.h"
#include "planner/make_plan.h"
#include "planner/samples.h"
#include "sim/critical_path.h"
#include "sim/engine.h"
#include "sim/step_clock.h"
#include "sim/timeline.h"
#include "tools/own_run.h"
#include "tools/plan_report.h"
#include "tools/question.h"
#include "tools/step_timeline.h"
#include "tools/verb.h"
#include "traces/chrome_trace.h"
#include "traces/text_file.h"
#include "traces/timeline_file.h"
#include "traces/units.h"

namespace steploom {
namespace {

struct Flags {
  QuestionFlags question;
  std::string layout;
  std::string trace;
  std::string timeline;
  std::string plan;
  std::optional<Picoseconds> measured;
  std::string calibrate;
  bool unfold = false;
  std::string format = "table";
};

// A plan whose space is this one layout.
Plan plan_of(const Question& question, const PlanRow& row, double known) {
  const Setting& s = question.setting();
  Plan plan;
  plan.model = s.model;
  plan.work = s.work;
  plan.cluster = s.cluster;
  plan.runtime = s.runtime.name;
  plan.profile = question.profile_name();
  plan.profile_digest = question.profile_digest();
  plan.engine = std::string(engine_signature());
  plan.calibration = question.calibration();
  plan.rows = {row};
  plan.searched.enumerated = plan.searched.replayed = 1;
  plan.bound = row.step;
  plan.fitted_share = known;
  return plan;
}

// What was measured: as given now, or as the plan has it of this layout.
std::optional<MeasuredStep> measured_beside(const Asked& asked, const PlanRow& row,
                                            std::optional<Picoseconds> given) {
  if (!given && asked.plan && asked.plan->measured && asked.plan->measured->layout == row.layout)
    given = asked.plan->measured->measured;
  if (!given) return std::nullopt;
  return MeasuredStep{row.layout, row.step, *given};
}

ExitStatus run(const Flags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const Asked asked = ask(f.question, f.layout);
  Report report(asked.question->headline());
  if (!f.calibrate.empty()) {
    Question& question = *asked.question;
    question.calibrate(std::nullopt);
    std::vector<std::string> notes;
    question.calibrate(fit_to_trace(f.calibrate, question.setting(), asked.layout, notes));
    for (std::string& note : notes) report.note(std::move(note));
  }
  const Setting& s = asked.question->setting();
  CostCache costs(s.costs);
  // Of several draws of the routing the one that has the quantile is shown.
  std::optional<Candidate> over_draws;
  if (has_samples(s)) {
    over_draws = evaluate(s, asked.layout, costs);
    asked.question->use_sample(over_draws->sample);
  }
  Lowered lowered = lower(s, asked.layout, costs, f.unfold ? Folding::unfolded : Folding::folded);
  ReplayOptions options = s.replaying();
  const bool wants_timeline = !f.trace.empty() || !f.timeline.empty();
  options.record_memory = wants_timeline;
  Replay replayed;
  if (over_draws) replayed = replay_at_clock(lowered.program, options);
  const Candidate candidate =
      over_draws ? *over_draws : evaluate(s, asked.layout, costs, lowered, options, &replayed);
  const PlanRow row = describe(s, candidate, lowered);

  report.add("rows", "", rows_table({row}, false));
  report.add("memory", "Memory of one rank of each kind, the fullest first:",
             memory_table(lowered, replayed.peak_memory));
  if (const auto& calibration = asked.question->calibration())
    add_calibration(report, *calibration);
  const auto beside = measured_beside(asked, row, f.measured);
  if (beside) add_measured(report, *beside);
  const double known = surely_known(critical_path(lowered.program, replayed));
  report.note("");
  note_routing(report, s.work.routing, row);
  report.note(fmt::format(
      "lower bounds: closed form {}, longest path {} · {} operators, {} kind(s) of rank",
      time_text(candidate.closed_form), time_text(candidate.relaxed), lowered.program.op_count,
      lowered.program.devices.size()));
  report.note(fmt::format("rests on {} {:.0f} %, modelled {:.0f} % of the step",
                          asked.question->calibration() ? "calibrated or fitted" : "fitted",
                          known * 100, (1 - known) * 100));
  if (const std::string clock = clock_text(lowered.program, s); !clock.empty()) report.note(clock);
  note_types(report, s);
  if (!candidate.fits()) report.note(too_full_text(s, lowered.program, candidate, replayed));
  if (wants_timeline) {
    Timeline timeline = make_timeline(lowered.program, replayed);
    timeline.origin = origin_of(asked, std::move(timeline.origin));
    if (!f.trace.empty()) {
      TraceOptions tracing;
      tracing.name = s.model.name + " " + to_text(asked.layout);
      write_text_file(f.trace,
                      [&](std::ostream& out) { write_chrome_trace(out, timeline, tracing); });
      report.note("trace written to " + f.trace + "; open it at https://ui.perfetto.dev");
    }
    if (!f.timeline.empty()) {
      save_timeline(timeline, f.timeline);
      report.note("timeline written to " + f.timeline);
    }
  }
  if (!f.plan.empty()) {
    Plan plan = plan_of(*asked.question, row, known);
    plan.measured = beside;
    save_plan(plan, f.plan);
    report.note("plan written to " + f.plan);
  }
  for (const std::string& w : warnings(known, row, s.cluster.nodes)) report.warn(w);
  if (const auto free = overlap_warning(s, row.layout)) report.warn(*free);
  report.print(format);
  return candidate.fits() ? ExitStatus::done : ExitStatus::negative;
}

}  // namespace

RunVerb prepare_simulate(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  add_model_or_plan(app, f->question, f->layout);
  add_measured_flag(app, f->measured);
  add_calibrate_flag(app, f->calibrate);
  app.add_option("--trace", f->trace,
                 "Write a Chrome trace (opens in Perfetto) to this file (.gz: compressed)");
  app.add_option("--timeline", f->timeline,
                 "Write the timeline to this file (.gz: compressed), for `steploom compare`");
  app.add_option("-o,--output", f->plan, "Write a plan.json of this one layout to this file");
  app.add_flag("--unfold", f->unfold, "Replay every rank for itself, not one for all alike");
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
