// steploom explain: where a step's time goes.
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "planner/explain.h"
#include "planner/lower.h"
#include "sim/step_clock.h"
#include "tools/own_run.h"
#include "tools/plan_report.h"
#include "tools/question.h"
#include "tools/report.h"
#include "tools/verb.h"
#include "traces/units.h"

namespace steploom {
namespace {

struct Flags {
  QuestionFlags question;
  std::string layout;
  bool knock_out = false;
  std::string format = "table";
};

double share(Picoseconds part, Picoseconds whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

Table classes_table(const Explanation& e) {
  Table t({{"operators"}, {"busy", CellKind::time}, {"of step", CellKind::share}});
  for (int c = 0; c < kOpClasses; ++c) {
    const auto which = static_cast<OpClass>(c);
    const Picoseconds busy = e.busy[static_cast<std::size_t>(c)];
    if (busy > 0) t.add({std::string(name_of(which)), busy, share(busy, e.step)});
  }
  if (e.recompute > 0)
    t.add({std::string("of it, recomputed"), e.recompute, share(e.recompute, e.step)});
  t.add({std::string("compute stream idle"), e.idle, share(e.idle, e.step)});
  return t;
}

Table communication_table(const Explanation& e) {
  Table t({{"collective"},
           {"busy", CellKind::time},
           {"exposed", CellKind::time},
           {"hidden", CellKind::time},
           {"exposed of step", CellKind::share}});
  for (const CommunicationTime& c : e.communication)
    t.add({name_of(c.what), c.busy, c.exposed, c.hidden(), share(c.exposed, e.step)});
  return t;
}

Table savings_table(const std::vector<Saving>& savings, Picoseconds step) {
  Table t({{"made free"}, {"saves", CellKind::time}, {"of step", CellKind::share}});
  for (const Saving& s : savings) t.add({s.what, s.saved, share(s.saved, step)});
  return t;
}

Table path_table(const Explanation& e) {
  Table t({{"critical path"}, {"time", CellKind::time}, {"of step", CellKind::share}});
  const auto add = [&](std::string name, Picoseconds time) {
    if (time > 0) t.add({std::move(name), time, share(time, e.step)});
  };
  for (int k = 0; k < kOpKinds; ++k)
    add(std::string(name_of(static_cast<OpKind>(k))), e.path.by_kind[static_cast<std::size_t>(k)]);
  add("the host issuing", e.path.host);
  add("waiting for SMs", e.path.waiting);
  return t;
}

Table provenance_table(const Explanation& e) {
  Table t({{"durations"}, {"time", CellKind::time}, {"of step", CellKind::share}});
  for (int p = 0; p < kProvenances; ++p)
    if (const Picoseconds time = e.path.by_provenance[static_cast<std::size_t>(p)]; time > 0)
      t.add({std::string(name_of(static_cast<Provenance>(p))), time, share(time, e.step)});
  return t;
}

ExitStatus run(const Flags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const Asked asked = ask(f.question, f.layout);
  const Setting& s = asked.question->setting();
  CostCache costs(s.costs);
  Lowered lowered = lower(s, asked.layout, costs);
  replay_at_clock(lowered.program, s.replaying());
  const Explanation e = explain(lowered.program, s.replaying());
  Report report(fmt::format("{}\n{} · step {}", asked.question->headline(),
                            short_name(asked.layout), time_text(e.step)));
  if (const auto& calibration = asked.question->calibration())
    add_calibration(report, *calibration);
  if (asked.plan && asked.plan->measured) add_measured(report, *asked.plan->measured);
  report.add("operators", "Busy time, mean over ranks:", classes_table(e));
  if (!e.communication.empty())
    report.add("communication",
               "Communication, mean over ranks; exposed is what the step would save without it:",
               communication_table(e));
  report.add("savings", "What the step would save:",
             savings_table({{"all communication", e.communication_exposed},
                            {"pipeline bubble", e.bubble},
                            {"optimizer", e.optimizer},
                            {"host", e.host}},
                           e.step));
  report.add("critical_path", "The critical path, which tiles the step:", path_table(e));
  report.add("provenance", "What those durations rest on:", provenance_table(e));
  if (const std::string clock = clock_text(lowered.program, s); !clock.empty()) report.note(clock);
  note_types(report, s);
  const Certificate floors = certify(lowered.program, e.step);
  report.add("floors", "What the step cannot go below:", floors_table(floors));
  add_floors(report, floors);
  report.note(floors_text(floors));
  if (f.knock_out)
    report.add("knock_outs", "Replays with one thing made free:",
               savings_table(knock_out_all(lowered.program, s.replaying()), e.step));
  report.print(format);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_explain(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  add_model_or_plan(app, f->question, f->layout);
  app.add_flag("--knock-out", f->knock_out,
               "Replay with each collective, bubble, contention, host, imbalance made free");
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
