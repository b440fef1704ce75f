// steploom why-not: which rule, memory part, bound or cost keeps a layout from being the plan.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "models/layout_rules.h"
#include "planner/explain.h"
#include "planner/fullest_rank.h"
#include "planner/make_plan.h"
#include "sim/engine.h"
#include "sim/step_clock.h"
#include "tools/plan_report.h"
#include "tools/question.h"
#include "tools/verb.h"
#include "traces/units.h"

namespace steploom {
namespace {

struct Flags {
  QuestionFlags question;
  std::string layout;
  std::string format = "table";
};

// Which part of the fullest rank is the largest, and how much the device lacks.
void explain_shortage(const Setting& s, const Lowered& lowered, const Replay& r, Report& report) {
  const FullestRank worst = fullest_rank(s, lowered.program, r.peak_memory);
  const MemoryParts& m = lowered.memory[worst.device];
  const std::pair<const char*, Bytes> parts[] = {
      {"parameters", m.parameters}, {"gradients", m.gradients},
      {"optimizer", m.optimizer},   {"activations", worst.peak - m.fixed()},
      {"buffers", m.buffers},       {"workspace", m.workspace}};
  const auto most =
      std::max_element(std::begin(parts), std::end(parts),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  report.add("memory", "Memory of one rank of each kind, the fullest first:",
             memory_table(lowered, r.peak_memory));
  report.note(fmt::format(
      "out of memory: {} needs {} of {}, {} too much; its largest part is {} with {}",
      lowered.program.devices[worst.device].name, bytes_text(worst.peak), bytes_text(worst.limit),
      bytes_text(worst.peak - worst.limit), most->first, bytes_text(most->second)));
}

Table side_by_side(const Explanation& best, const Explanation& other) {
  Table t({{"what"},
           {"plan", CellKind::time},
           {"this layout", CellKind::time},
           {"difference", CellKind::time}});
  const auto add = [&](std::string what, Picoseconds a, Picoseconds b) {
    if (a != 0 || b != 0) t.add({std::move(what), a, b, b - a});
  };
  add("step", best.step, other.step);
  for (int c = 0; c < kOpClasses; ++c) {
    const auto i = static_cast<std::size_t>(c);
    add("busy: " + std::string(name_of(static_cast<OpClass>(c))), best.busy[i], other.busy[i]);
  }
  add("exposed communication", best.communication_exposed, other.communication_exposed);
  add("pipeline bubble", best.bubble, other.bubble);
  add("optimizer", best.optimizer, other.optimizer);
  add("host", best.host, other.host);
  return t;
}

ExitStatus run(const Flags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const Plan plan = load_plan(f.question.model);
  const auto question = Question::from_plan(plan, f.question, f.question.model);
  const Setting& s = question->setting();
  const Layout layout = parse_layout(f.layout, s.cluster.devices(), s.model.has_moe());
  Report report(fmt::format("{}\nwhy not {}?", question->headline(), to_text(layout)));
  if (const auto refusal = refuse(
          {s.model, s.work, layout, s.cluster.devices(), &s.runtime, s.cluster.devices_per_node})) {
    report.note(fmt::format("refused by the rule \"{}\": {}", refusal->rule, refusal->message));
    report.print(format);
    return ExitStatus::done;
  }
  CostCache costs(s.costs);
  Lowered lowered = lower(s, layout, costs);
  Replay replayed;
  const Candidate c = evaluate(s, layout, costs, lowered, s.replaying(), &replayed);
  if (!c.fits()) {
    explain_shortage(s, lowered, replayed, report);
    report.print(format);
    return ExitStatus::done;
  }
  const PlanRow& best = plan.rows.front();
  const PlanRow& last = plan.rows.back();
  const auto in_rows = std::find_if(plan.rows.begin(), plan.rows.end(),
                                    [&](const PlanRow& r) { return r.layout == layout; });
  if (in_rows != plan.rows.end())
    report.note(fmt::format("it is row {} of the plan", in_rows - plan.rows.begin() + 1));
  else if (c.closed_form >= last.step)
    report.note(
        fmt::format("pruned by the closed-form bound: it takes at least {}, row {} takes {}",
                    time_text(c.closed_form), plan.rows.size(), time_text(last.step)));
  else if (c.relaxed >= last.step)
    report.note(fmt::format("pruned by its longest path: it takes at least {}, row {} takes {}",
                            time_text(c.relaxed), plan.rows.size(), time_text(last.step)));
  else
    report.note(fmt::format("replayed: {}, row {} takes {}", time_text(c.step), plan.rows.size(),
                            time_text(last.step)));
  Lowered winner = lower(s, best.layout, costs);
  replay_at_clock(winner.program, s.replaying());
  report.add("side_by_side", "Against the plan's first row, " + short_name(best.layout) + ":",
             side_by_side(explain(winner.program, s.replaying()),
                          explain(lowered.program, s.replaying())));
  report.print(format);
  return ExitStatus::done;
}

}  // namespace

RunVerb prepare_why_not(CLI::App& app) {
  const auto f = std::make_shared<Flags>();
  app.add_option("plan", f->question.model, "A plan.json written by `steploom plan -o`")
      ->required();
  app.add_option("--layout", f->layout, "The layout in question: tp=2,pp=4,ep=8,…")->required();
  add_rebase_flag(app, f->question);
  add_format_flag(app, f->format);
  return [f] { return run(*f); };
}

}  // namespace steploom
