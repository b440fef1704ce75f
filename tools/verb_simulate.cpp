// steploom simulate: one layout, replayed.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <ostream>
#include <utility>

#include "models/atomic_file.h"
#include "planner/explain.h"
#include "planner/make_plan.h"
#include "sim/critical_path.h"
#include "sim/engine.h"
#include "sim/timeline.h"
#include "tools/plan_report.h"
#include "tools/question.h"
#include "tools/verb.h"
#include "traces/chrome_trace.h"
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
  bool unfold = false;
  std::string format = "table";
};

// What the replay was of, for readers of its timeline.
TimelineOrigin origin_of(const Asked& asked, const QuestionFlags& flags, TimelineOrigin origin) {
  const Setting& s = asked.question->setting();
  origin.model = s.model.name;
  origin.cluster = fmt::format("{} × {}", s.cluster.devices(), s.cluster.device.name);
  origin.layout = to_text(asked.layout);
  origin.runtime = s.runtime.name;
  origin.profile = asked.question->profile().name;
  origin.profile_digest = asked.question->profile().digest;
  if (is_plan_file(flags.model)) origin.plan_digest = digest_of(to_json(load_plan(flags.model)));
  return origin;
}

// A plan whose space is this one layout.
Plan plan_of(const Question& question, const PlanRow& row, double known) {
  const Setting& s = question.setting();
  Plan plan;
  plan.model = s.model;
  plan.work = s.work;
  plan.cluster = s.cluster;
  plan.runtime = s.runtime.name;
  plan.profile = question.profile().name;
  plan.profile_digest = question.profile().digest;
  plan.engine = std::string(engine_signature());
  plan.rows = {row};
  plan.searched.enumerated = plan.searched.replayed = 1;
  plan.bound = row.step;
  plan.fitted_share = known;
  return plan;
}

ExitStatus run(const Flags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const Asked asked = ask(f.question, f.layout);
  const Setting& s = asked.question->setting();
  CostCache costs(s.costs);
  Lowered lowered =
      lower(s, asked.layout, costs, f.unfold ? Folding::unfolded : Folding::folded);
  ReplayOptions options = s.replaying();
  const bool wants_timeline = !f.trace.empty() || !f.timeline.empty();
  options.record_memory = wants_timeline;
  Replay replayed;
  const Candidate candidate = evaluate(s, asked.layout, costs, lowered, options, &replayed);
  const PlanRow row = describe(s, candidate, lowered);

  Report report(asked.question->headline());
  report.add("rows", "", rows_table({row}, false));
  report.add("memory", "Memory of one rank of each kind, the fullest first:",
             memory_table(lowered, replayed.peak_memory));
  const double known = surely_known(critical_path(lowered.program, replayed));
  report.note("");
  report.note(fmt::format(
      "lower bounds: closed form {}, longest path {} · {} operators, {} kind(s) of rank",
      time_text(candidate.closed_form), time_text(candidate.relaxed), lowered.program.op_count,
      lowered.program.devices.size()));
  report.note(fmt::format("rests on fitted {:.0f} %, modelled {:.0f} % of the step", known * 100,
                          (1 - known) * 100));
  if (const std::string clock = clock_text(lowered.program, s.costs.clock_law()); !clock.empty())
    report.note(clock);
  const bool fits = candidate.memory <= s.cluster.device.memory;
  if (!fits)
    report.note(fmt::format("does not fit: the fullest rank needs {} of {}",
                            bytes_text(candidate.memory), bytes_text(s.cluster.device.memory)));
  if (wants_timeline) {
    Timeline timeline = make_timeline(lowered.program, replayed);
    timeline.origin = origin_of(asked, f.question, std::move(timeline.origin));
    if (!f.trace.empty()) {
      TraceOptions tracing;
      tracing.name = s.model.name + " " + to_text(asked.layout);
      write_file_atomically(f.trace,
                            [&](std::ostream& out) { write_chrome_trace(out, timeline, tracing); });
      report.note("trace written to " + f.trace + "; open it at https://ui.perfetto.dev");
    }
    if (!f.timeline.empty()) {
      save_timeline(timeline, f.timeline);
      report.note("timeline written to " + f.timeline);
    }
  }
  if (!f.plan.empty()) {
    save_plan(plan_of(*asked.question, row, known), f.plan);
    report.note("plan written to " + f.plan);
  }
  for (const std::string& w : warnings(known, row, s.cluster.nodes)) report.warn(w);
  report.print(format);
  return fits ? ExitStatus::done : ExitStatus::negative;
}

}  // namespace

RunVerb prepare_simulate(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  add_model_or_plan(app, f->question, f->layout);
  app.add_option("--trace", f->trace, "Write a Chrome trace (opens in Perfetto) to this file");
  app.add_option("--timeline", f->timeline,
                 "Write the timeline to this file (.gz: compressed), for `steploom compare`");
  app.add_option("-o,--output", f->plan, "Write a plan.json of this one layout to this file");
  app.add_flag("--unfold", f->unfold, "Replay every rank for itself, not one for all alike");
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
