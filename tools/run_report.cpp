#include "tools/run_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

namespace steploom {
namespace {

constexpr double kPerMicrosecond = 1e6;  // picoseconds

Picoseconds picoseconds(double us) {
  return static_cast<Picoseconds>(std::llround(us * kPerMicrosecond));
}

// Predicted over measured, less one.
double error(double predicted, double measured) {
  return measured > 0 ? predicted / measured - 1 : 0;
}

std::string now() {
  char text[32];
  const std::time_t seconds = std::time(nullptr);
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&seconds));
  return text;
}

}  // namespace

Table measured_table(const RunPlans& plans, const std::vector<MeasuredRun>& runs) {
  Table t({{"plan"},
           {"layout"},
           {"predicted", CellKind::time, 0, "", "predicted_ps"},
           {"measured", CellKind::time, 0, "", "measured_ps"},
           {"error", CellKind::share, 0, "", "error"},
           {"r", CellKind::share, 0, "", "repeatability"},
           {"lower quartile", CellKind::time, 0, "", "lower_quartile_ps"},
           {"upper quartile", CellKind::time, 0, "", "upper_quartile_ps"},
           {"blocks", CellKind::integer, 0, "", "blocks"},
           {"steps", CellKind::integer, 0, "", "steps"},
           {"issue predicted", CellKind::time, 0, "", "issue_predicted_ps"},
           {"issue", CellKind::time, 0, "", "issue_ps"},
           {"memory predicted", CellKind::bytes, 0, "", "memory_predicted_bytes"},
           {"memory", CellKind::bytes, 0, "", "memory_bytes"},
           {"memory error", CellKind::share, 0, "", "memory_error"},
           {"traced", CellKind::time, 0, "", "traced_ps"},
           {"loss", CellKind::number, 4, "", "loss"},
           {"prediction", CellKind::text, 0, "", "prediction_digest"}});
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Prediction& p = plans[i]->prediction;
    const MeasuredRun& r = runs[i];
    Bytes peak = 0;
    for (const MeasuredMemory& m : r.ranks) peak = std::max(peak, m.peak);
    const auto memory = static_cast<double>(p.memory);
    const Cell traced = r.traced_us > 0 ? Cell(picoseconds(r.traced_us)) : Cell();
    t.add({plans[i]->name, short_name(plans[i]->layout), p.replay.makespan,
           picoseconds(r.step_us.median),
           error(static_cast<double>(p.replay.makespan), r.step_us.median * kPerMicrosecond),
           r.repeatability, picoseconds(r.step_us.first), picoseconds(r.step_us.third),
           static_cast<std::int64_t>(r.block_us.size()), static_cast<std::int64_t>(r.steps),
           p.issue, picoseconds(r.issue_us), p.memory, peak,
           error(memory, static_cast<double>(peak)), traced, r.loss, p.digest});
  }
  return t;
}

Table measured_memory_table(const RunPlans& plans, const std::vector<MeasuredRun>& runs) {
  Table t({{"plan"},
           {"rank", CellKind::integer, 0, "", "rank"},
           {"predicted", CellKind::bytes},
           {"peak", CellKind::bytes},
           {"parameters", CellKind::bytes},
           {"gradients", CellKind::bytes},
           {"optimizer", CellKind::bytes},
           {"arena", CellKind::bytes},
           {"other", CellKind::bytes},
           {"workspaces", CellKind::bytes},
           {"communicators", CellKind::bytes},
           {"context", CellKind::bytes},
           {"rest", CellKind::bytes}});
  for (std::size_t i = 0; i < plans.size(); ++i) {
    for (std::size_t rank = 0; rank < runs[i].ranks.size(); ++rank) {
      const MeasuredMemory& m = runs[i].ranks[rank];
      t.add({plans[i]->name, static_cast<std::int64_t>(rank),
             plans[i]->prediction.replay.peak_memory[rank], m.peak, m.parameters, m.gradients,
             m.optimizer, m.arena, m.other, m.workspace, m.communicators, m.context, m.rest()});
    }
  }
  return t;
}

Table classes_table(const RunPlans& plans, const std::vector<MeasuredRun>& runs) {
  Table t({{"plan"},
           {"class"},
           {"predicted", CellKind::time, 0, "", "predicted_ps"},
           {"traced", CellKind::time, 0, "", "traced_ps"},
           {"error", CellKind::share, 0, "", "error"}});
  for (std::size_t i = 0; i < plans.size(); ++i) {
    if (runs[i].traced.start.empty()) continue;
    const auto traced = busy_times(plans[i]->lowered.program, runs[i].traced);
    for (std::size_t c = 0; c < traced.size(); ++c) {
      const Picoseconds predicted = plans[i]->prediction.busy[c];
      if (predicted == 0 && traced[c] == 0) continue;
      t.add({plans[i]->name, std::string(name_of(static_cast<OpClass>(c))), predicted, traced[c],
             error(static_cast<double>(predicted), static_cast<double>(traced[c]))});
    }
  }
  return t;
}

Table verification_table(const RunPlans& plans, const std::vector<Verification>& verified) {
  Table t({{"plan"},
           {"against"},
           {"tensors", CellKind::integer, 0, "", "tensors"},
           {"beyond", CellKind::integer, 0, "", "beyond"},
           {"worst tensor"},
           {"error", CellKind::number, 6, "", "error"},
           {"bound", CellKind::number, 6, "", "bound"},
           {"loss", CellKind::number, 6, "", "loss"},
           {"expected", CellKind::number, 6, "", "expected_loss"},
           {"router agreement", CellKind::share, 0, "", "router_agreement"}});
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Verification& v = verified[i];
    if (v.tensors.empty()) continue;
    const auto beyond = std::count_if(v.tensors.begin(), v.tensors.end(),
                                      [](const TensorError& e) { return !e.passes(); });
    const std::string against = v.against_reference ? "float64 reference"
                                : i == 0            ? "itself, other sums"
                                                    : plans[0]->name;
    t.add({plans[i]->name, against, static_cast<std::int64_t>(v.tensors.size()),
           static_cast<std::int64_t>(beyond), v.worst().name, v.worst().error, v.worst().bound,
           v.loss, v.expected_loss, v.router_agreement < 0 ? Cell() : Cell(v.router_agreement)});
  }
  return t;
}

Timeline executed_timeline(const RunPlan& plan, const MeasuredRun& run) {
  Timeline t = make_timeline(plan.lowered.program, run.traced);
  for (TimelineDevice& d : t.devices) d.mhz = 0;  // the predicted one
  const Setting& s = plan.question->setting();
  TimelineOrigin& o = t.origin;
  o = {};
  o.source = TimelineSource::executed;
  o.model = s.model.name;
  o.cluster = devices_text(s.cluster);
  o.layout = to_text(plan.layout);
  o.runtime = s.runtime.name;
  o.plan_digest = digest_of(to_json(plan.plan));
  o.date = now();
  o.steps = static_cast<std::int32_t>(run.steps * static_cast<int>(run.block_us.size()));
  o.step = picoseconds(run.step_us.median);
  o.repeats =
      Repeats{static_cast<std::int32_t>(run.block_us.size()), picoseconds(run.step_us.first),
              picoseconds(run.step_us.third), run.repeatability};
  for (std::size_t d = 0; d < t.devices.size(); ++d) {
    t.devices[d].peak_memory = run.ranks[d].peak;
    t.devices[d].static_memory = run.ranks[d].peak - run.ranks[d].arena;
  }
  for (std::size_t i = 0; i < t.events.size(); ++i) {
    TimelineEvent& e = t.events[i];
    e.issued = std::min(run.issued[i], e.start);
    e.joined = e.joined == kUnknownTime ? kUnknownTime : std::clamp(e.joined, e.start, e.end);
    e.provenance = Provenance::measured;
  }
  return t;
}

}  // namespace steploom
