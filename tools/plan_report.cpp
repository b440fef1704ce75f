#include "tools/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "planner/explain.h"
#include "planner/fullest_rank.h"
#include "traces/units.h"

namespace steploom {
namespace {

// "refused 5120 (experts % ep 1800, heads % tp 900, …)": the rules that refuse the most.
std::string refusals(const SearchCounts& c) {
  std::vector<std::pair<std::string, std::int64_t>> rules(c.refused.begin(), c.refused.end());
  std::stable_sort(rules.begin(), rules.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  constexpr std::size_t kShown = 3;
  std::string text = fmt::format("refused {}", c.refused_total());
  for (std::size_t i = 0; i < rules.size() && i < kShown; ++i)
    text += fmt::format("{}{} {}", i == 0 ? " (" : ", ", rules[i].first, rules[i].second);
  if (!rules.empty()) text += rules.size() > kShown ? ", …)" : ")";
  return text;
}

}  // namespace

Table rows_table(const std::vector<PlanRow>& rows, bool ranked) {
  std::vector<Column> columns{
      {"layout"},
      {"micro", CellKind::integer, 0, "", "micro_batch"},
      {"recompute"},
      {"step", CellKind::time},
      {"tokens/s/GPU", CellKind::number, 0, "", "tokens_per_second_per_gpu"},
      {"MFU", CellKind::share, 0, "", "mfu"},
      {"HFU", CellKind::share, 0, "", "hfu"},
      {"memory", CellKind::bytes},
      {"bubble", CellKind::share},
      {"exposed comm", CellKind::share, 0, "", "exposed_communication"}};
  if (ranked) {
    columns.insert(columns.begin(), {"#", CellKind::integer, 0, "", "rank"});
    columns.push_back({"stays best", CellKind::share, 0, "", "stays_best"});
    columns.push_back({"worst regret", CellKind::share, 0, "", "worst_regret"});
  }
  Table t(std::move(columns));
  std::int64_t rank = 0;
  for (const PlanRow& r : rows) {
    std::vector<Cell> cells{short_name(r.layout),
                            r.layout.micro_batch,
                            to_text(r.layout.recompute, r.layout.recompute_detail),
                            r.step,
                            r.tokens_per_second,
                            r.mfu,
                            r.hfu,
                            r.memory,
                            r.bubble,
                            r.exposed_communication};
    if (ranked) {
      cells.insert(cells.begin(), ++rank);
      cells.emplace_back(r.stays_best);
      cells.emplace_back(r.worst_regret);
    }
    t.add(std::move(cells));
  }
  return t;
}

void note_routing(Report& report, const Routing& routing, const PlanRow& row) {
  if (!routing.uneven()) return;
  report.note(fmt::format(
      "routing {}: the fullest rank of a group has {:.2f} times its even share "
      "of the rows, on the mean{}",
      to_text(routing), row.busiest,
      routing.capacity > 0 ? fmt::format("; {:.1f} % of the rows are dropped", row.dropped * 100)
                           : ""));
  if (row.median == 0) return;
  report.value("median_step_ps", row.median);
  report.value("p95_step_ps", row.p95);
  report.note(fmt::format(
      "over {} draws of the routing: median {}, 95th percentile {}; shown is "
      "draw {}, at quantile {}",
      routing.samples, time_text(row.median), time_text(row.p95), row.sample, routing.quantile));
}

namespace {

std::string proof_text(const Plan& plan) {
  const SearchCounts& c = plan.searched;
  if (c.unseen == 0) return fmt::format("best of the whole space of {} valid layouts", c.valid());
  return fmt::format(
      "stopped with {} of {} valid layouts not looked at, none of which takes less than {}: at "
      "most {:.1f} % is left",
      c.unseen, c.valid(), time_text(plan.bound), plan.gap * 100);
}

}  // namespace

namespace {

// Would it be faster to leave the others out?
void add_alone(Report& report, const Plan& plan) {
  const Picoseconds mixed = plan.rows.front().step;
  Table t({{"GPUs alone"},
           {"layout"},
           {"micro", CellKind::integer, 0, "", "micro_batch"},
           {"recompute"},
           {"step", CellKind::time},
           {"over all GPUs' step", CellKind::number, 3, "", "over_mixed"},
           {"MFU", CellKind::share, 0, "", "mfu"},
           {"memory", CellKind::bytes},
           {"why none"}});
  const TypeAlone* faster = nullptr;
  for (const TypeAlone& a : plan.alone) {
    std::vector<Cell> cells(9);
    cells[0] = fmt::format("{} × {}", a.devices, a.device);
    cells[8] = a.failure;
    if (a.best) {
      const Layout& l = a.best->layout;
      cells[1] = short_name(l);
      cells[2] = l.micro_batch;
      cells[3] = to_text(l.recompute, l.recompute_detail);
      cells[4] = a.best->step;
      cells[5] = static_cast<double>(a.best->step) / static_cast<double>(mixed);
      cells[6] = a.best->mfu;
      cells[7] = a.best->memory;
      if (a.best->step <= mixed && (faster == nullptr || a.best->step < faster->best->step))
        faster = &a;
    }
    t.add(std::move(cells));
  }
  report.add("alone", "The same step on the GPUs of one type, the others left out:", std::move(t));
  if (faster != nullptr)
    report.warn(fmt::format("{} × {} alone take {}, all GPUs together {}: leave the others out",
                            faster->devices, faster->device, time_text(faster->best->step),
                            time_text(mixed)));
}

}  // namespace

Report plan_report(const Plan& plan, const std::string& headline, const std::string& file,
                   std::int64_t to_measure) {
  Report report(headline);
  report.add("rows", "", rows_table(plan.rows, true));
  if (!plan.alone.empty()) add_alone(report, plan);
  const SearchCounts& c = plan.searched;
  report.note("");
  note_routing(report, plan.work.routing, plan.rows.front());
  report.note(
      fmt::format("{} · out of memory {} · pruned {} by bound, {} by longest path · replayed {}",
                  refusals(c), c.out_of_memory, c.pruned_bound, c.pruned_relaxed, c.replayed));
  report.note(fmt::format("{} · rests on {} {:.0f} %, modelled {:.0f} % of the step",
                          proof_text(plan), plan.calibration ? "calibrated or fitted" : "fitted",
                          plan.fitted_share * 100, (1 - plan.fitted_share) * 100));
  const bool decided = std::any_of(plan.rows.begin(), plan.rows.end(),
                                   [](const PlanRow& r) { return r.stays_best >= 0.5; });
  if (!decided)
    report.note(
        fmt::format("undecided: no row stays best in half of ±20 % on the network; measure the "
                    "all-to-all and the reduce-scatter between nodes of {}",
                    plan.cluster.name));
  report.value("shapes_to_measure", to_measure);
  if (to_measure > 0)
    report.note(fmt::format("to be surer, measure {} shapes: steploom profile --for {}{}",
                            to_measure, file.empty() ? "plan.json" : file,
                            file.empty() ? " (written with -o plan.json)" : ""));
  if (!file.empty()) report.note("plan written to " + file);
  for (const std::string& w : warnings(plan.fitted_share, plan.rows.front(), plan.cluster.nodes))
    report.warn(w);
  return report;
}

Table floors_table(const Certificate& c) {
  Table t({{"floor"}, {"at least", CellKind::time}, {"of step", CellKind::share}, {"holds"}});
  for (const StepFloor& f : c.floors)
    t.add({f.what, f.least, static_cast<double>(f.least) / static_cast<double>(c.step),
           std::string(f.any_order ? "in any order" : "in this order")});
  return t;
}

std::string floors_text(const Certificate& c) {
  const double left = static_cast<double>(c.left()) / static_cast<double>(c.step);
  std::string text = fmt::format(
      "no placement of weight gradients and their reductions takes less than {}: at most {:.1f} % "
      "is left to it",
      time_text(c.placed), left * 100);
  if (c.backward.busy > 0)
    text += fmt::format("; beside {} of backward all-to-alls there are {} of weight gradients",
                        time_text(c.backward.busy), time_text(c.backward.beside));
  return text;
}

void add_floors(Report& report, const Certificate& c) {
  report.value("floor_ps", c.placed);
  report.value("left_ps", c.left());
  report.value("backward_all_to_all_ps", c.backward.busy);
  report.value("weight_gradients_ps", c.backward.beside);
}

Table memory_table(const Lowered& lowered, const std::vector<Bytes>& peaks) {
  std::vector<std::size_t> order(peaks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return peaks[a] > peaks[b]; });
  std::vector<Column> columns{{"rank", CellKind::integer},
                              {"stage", CellKind::integer},
                              {"ranks alike", CellKind::integer, 0, "", "ranks"},
                              {"peak", CellKind::bytes},
                              {"parameters", CellKind::bytes},
                              {"gradients", CellKind::bytes},
                              {"optimizer", CellKind::bytes},
                              {"activations", CellKind::bytes},
                              {"buffers", CellKind::bytes},
                              {"workspace", CellKind::bytes},
                              {"of state: sharded", CellKind::bytes, 0, "", "tensor_sharded_bytes"},
                              {"replicated", CellKind::bytes},
                              {"experts", CellKind::bytes}};
  const bool away = std::any_of(lowered.memory.begin(), lowered.memory.end(),
                                [](const MemoryParts& m) { return m.host > 0; });
  if (away) columns.push_back({"in host memory", CellKind::bytes});
  Table t(std::move(columns));
  for (const std::size_t d : order) {
    const MemoryParts& m = lowered.memory[d];
    const Device& device = lowered.program.devices[d];
    std::vector<Cell> row{std::int64_t{lowered.first_rank[d]},
                          std::int64_t{device.stage},
                          std::int64_t{device.multiplicity},
                          peaks[d],
                          m.parameters,
                          m.gradients,
                          m.optimizer,
                          peaks[d] - m.fixed(),
                          m.buffers,
                          m.workspace,
                          m.sharded,
                          m.replicated,
                          m.experts};
    if (away) row.push_back(m.host);
    t.add(std::move(row));
  }
  return t;
}

namespace {

std::string clock_of_type(const Program& program, std::size_t type, const ClockLaw& law) {
  int least = law.most_mhz, most = 0;
  for (const Device& d : program.devices) {
    if (d.type != type) continue;
    least = std::min<int>(least, d.mhz);
    most = std::max<int>(most, d.mhz);
  }
  if (least == 0) return "";
  const std::string range =
      least == most ? std::to_string(most) : fmt::format("{} to {}", least, most);
  return fmt::format("SM clock {} of {} MHz{}", range, law.most_mhz,
                     least < law.most_mhz
                         ? fmt::format(": mean power is at its limit of {} W", law.limit_watts)
                         : "");
}

}  // namespace

std::string clock_text(const Program& program, const Setting& s) {
  std::string text;
  for (std::size_t t = 0; t < s.types(); ++t) {
    const std::string own = clock_of_type(program, t, s.of_type(t).costs.clock_law());
    if (own.empty()) continue;
    if (!text.empty()) text += "; ";
    text += s.sides.empty() ? own : s.device_of_type(t).name + ": " + own;
  }
  return text;
}

void note_types(Report& report, const Setting& s) {
  if (s.sides.empty()) return;
  std::string clocked, plain, contended, free;
  const auto name = [](std::string& list, const std::string& device) {
    list += (list.empty() ? "" : ", ") + device;
  };
  for (const DeviceSide& side : s.sides) {
    name(side.costs.clock_law().known() ? clocked : plain, side.cluster.device.name);
    name(slows_nothing(side.contention) ? free : contended, side.cluster.device.name);
  }
  if (!clocked.empty() && !plain.empty())
    report.note(
        fmt::format("not modelled: the clock under load of {}, whose times are as measured "
                    "(modelled: {})",
                    plain, clocked));
  if (!contended.empty() && !free.empty())
    report.note(fmt::format("not modelled: how kernels slow each other on {} (modelled: {})", free,
                            contended));
}

std::string too_full_text(const Setting& s, const Program& program, const Candidate& c,
                          const Replay& replayed) {
  std::string rank = "the fullest rank";
  if (!s.sides.empty())
    rank = program.devices[fullest_rank(s, program, replayed.peak_memory).device].name;
  return fmt::format("does not fit: {} needs {} of {}", rank, bytes_text(c.memory),
                     bytes_text(c.limit));
}

}  // namespace steploom
