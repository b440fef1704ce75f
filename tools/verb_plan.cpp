// steploom plan: the fastest layouts of the whole space.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "planner/explain.h"
#include "planner/make_plan.h"
#include "planner/samples.h"
#include "sim/step_clock.h"
#include "tools/own_run.h"
#include "tools/plan_report.h"
#include "tools/plan_shapes.h"
#include "tools/present_run.h"
#include "tools/question.h"
#include "tools/verb.h"

namespace steploom {
namespace {

struct Flags {
  QuestionFlags question;
  int top = 5;
  unsigned threads = 0;
  double seconds = 0;
  std::string format = "table";
  std::string output;
  std::string from;  // a run's script or YAML, or a folder of them
  std::optional<Picoseconds> measured;
  std::string calibrate;
};

std::unique_ptr<Question> asked(const Flags& f, const std::optional<MegatronQuestion>& run) {
  if (run) return Question::from_run(*run, f.question);
  if (f.question.model.empty())
    throw Error({"command line", "", "a model, or --from with a run's flags", "neither", ""});
  return Question::from_flags(f.question);
}

// The run's own step against its trace; what is asked from here on is costed as calibrated.
std::vector<std::string> calibrate(const std::string& trace, MegatronQuestion& run, Question& q) {
  const Setting& s = q.setting();
  const Setting now = s.with_runtime(run.runtime);
  const Layout layout = parse_layout(run.layout, s.cluster.devices(), s.model.has_moe());
  require_valid(now, layout, "--from");
  std::vector<std::string> notes;
  const Calibration c = fit_to_trace(trace, now, layout, notes);
  q.calibrate(c);
  steploom::calibrate(run.runtime, c);
  return notes;
}

Certificate floors_of(const Setting& s, const PlanRow& best) {
  CostCache costs(s.costs);
  const Setting drawn = of_sample(s, best.sample);
  Lowered lowered = lower(drawn, best.layout, costs);
  const Replay r = replay_at_clock(lowered.program, drawn.replaying());
  return certify(lowered.program, r.makespan);
}

ExitStatus run(const Flags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const bool folder = !f.from.empty() && std::filesystem::is_directory(f.from);
  if ((f.measured || !f.calibrate.empty()) && (f.from.empty() || folder))
    throw Error({"command line", f.measured ? "--measured" : "--calibrate",
                 "--from with the run that was measured", folder ? "a folder" : "none",
                 "or `simulate` with its --layout"});
  if (folder) {
    folder_report(f.from).print(format);
    return ExitStatus::done;
  }
  std::optional<MegatronQuestion> megatron;
  if (!f.from.empty()) {
    if (!f.question.model.empty() || f.question.seq_length || f.question.global_batch)
      throw Error({"command line", "--from", "no model, --seq-length or --global-batch beside it",
                   "both", "the run's flags say these"});
    megatron = from_megatron(load_megatron_args(f.from), std::filesystem::path(f.from).stem());
  }
  const auto question = asked(f, megatron);
  std::vector<std::string> notes;
  if (!f.calibrate.empty()) notes = calibrate(f.calibrate, *megatron, *question);
  PlanOptions options;
  options.top = f.top;
  options.threads = f.threads;
  options.seconds = f.seconds;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  if (terminal)
    options.progress = [](double share) {
      std::fprintf(stderr, "\r%3.0f %% of the layouts that fit", share * 100);
    };
  Plan plan = make_plan(question->setting(), question->profiles(), options);
  if (terminal) std::fputs("\r\033[K", stderr);
  // A session measures one type of GPU.
  const bool one_type = plan.cluster.groups.empty();
  const auto to_measure =
      one_type ? shapes_to_measure(question->setting(), plan.rows.front().layout).kernels.size()
               : 0;
  Report report =
      plan_report(plan, question->headline(), f.output, static_cast<std::int64_t>(to_measure));
  note_types(report, question->setting());
  const Certificate floors = floors_of(question->setting(), plan.rows.front());
  add_floors(report, floors);
  report.note(floors_text(floors));
  if (const auto free = overlap_warning(question->setting(), plan.rows.front().layout))
    report.warn(*free);
  for (std::string& note : notes) report.note(std::move(note));
  if (plan.calibration) add_calibration(report, *plan.calibration);
  if (megatron) {
    const auto present = add_present_run(report, *megatron, *question, plan);
    if (f.measured && !present)
      throw Error({"--measured", "", "a run whose step can be predicted",
                   "one whose layout breaks a rule", "without --measured, `plan` says which"});
    if (f.measured) {
      plan.measured = {present->layout, present->step, *f.measured};
      add_measured(report, *plan.measured);
    }
  }
  if (!f.output.empty()) save_plan(plan, f.output);
  report.print(format);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_plan(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("model", f->question.model,
                 "Shipped model (see `steploom models`) or a config.json");
  app.add_option("--from", f->from,
                 "In place of the model: a Megatron run's script, its line of flags or its YAML; "
                 "a folder of them is only read and counted");
  add_question_flags(app, f->question);
  add_measured_flag(app, f->measured);
  add_calibrate_flag(app, f->calibrate);
  app.add_option("--top", f->top, "How many layouts to show")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--threads", f->threads, "Threads of the search (default: all cores)")
      ->check(CLI::Range(1U, 1024U));
  app.add_option("--within", f->seconds,
                 "End the search after so many seconds, with a bound of what is left "
                 "(default: search the whole space)")
      ->check(CLI::Range(0.01, 1e6));
  app.add_option("-o,--output", f->output, "Write the plan to this file");
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
