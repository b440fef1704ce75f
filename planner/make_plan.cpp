#include "planner/make_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "models/flops.h"
#include "models/layout_rules.h"
#include "planner/explain.h"
#include "planner/knockout.h"
#include "planner/parallel.h"
#include "planner/plan_alone.h"
#include "planner/robustness.h"
#include "planner/samples.h"
#include "sim/critical_path.h"
#include "sim/engine.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

double share(Picoseconds part, Picoseconds whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

}  // namespace

Error no_layout(const Setting& s, const SearchResult& r) {
  Error::Where where;
  where.reading = fmt::format("{} on {}", s.model.name, devices_text(s.cluster));
  where.expected = "a layout that keeps every rule and fits in memory";
  if (r.valid == 0) {
    const auto most =
        std::max_element(r.refused.begin(), r.refused.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    where.found = fmt::format("none of {} layouts keeps every rule; \"{}\" alone refuses {}",
                              r.enumerated, most->first, most->second);
    where.hint = "change the number of nodes or the global batch";
  } else {
    constexpr double kGiB = 1024.0 * 1024 * 1024;
    where.found = fmt::format("{} valid layouts, every one out of memory", r.valid);
    where.hint = fmt::format(
        "nearest is {} with at least {:.1f} GiB of {:.1f} GiB; use more nodes or a smaller model",
        to_text(r.smallest->first), static_cast<double>(r.smallest->second) / kGiB,
        static_cast<double>(r.smallest_limit) / kGiB);
    if (s.runtime.offloads_experts && s.model.has_moe())
      where.hint += ", or `simulate --layout` with offload=experts, which is not searched";
  }
  return Error(where, ExitStatus::negative);
}

void require_valid(const Setting& s, const Layout& layout, const std::string& reading) {
  if (const auto refusal = refuse(
          {s.model, s.work, layout, s.cluster.devices(), &s.runtime, s.cluster.devices_per_node}))
    throw Error({reading, fmt::format("rule \"{}\"", refusal->rule), "", refusal->message, ""});
}

double executed_flops(const Program& p) {
  std::vector<double> block;
  for (const BlockTemplate& b : p.blocks) {
    double sum = 0;
    for (const OpInfo& info : b.infos) sum += info.work.flops;
    block.push_back(sum);
  }
  double total = 0;
  for (const Device& d : p.devices) {
    double sum = 0;
    for (std::uint32_t s = 0; s < d.slot_count; ++s) sum += block[p.slots[d.first_slot + s].block];
    total += sum * d.multiplicity;
  }
  return total;
}

PlanRow describe(const Setting& s, const Candidate& c, const Lowered& lowered) {
  const Program& p = lowered.program;
  PlanRow row;
  row.layout = c.layout;
  row.closed_form = c.closed_form;
  row.relaxed = c.relaxed;
  row.step = c.step;
  row.memory = c.memory;
  if (s.work.routing.uneven()) {
    row.busiest = lowered.routing.busiest;
    row.dropped = lowered.routing.dropped;
  }
  row.sample = c.sample;
  row.median = c.median;
  row.p95 = c.p95;
  const double seconds = static_cast<double>(c.step) * 1e-12;
  const double device_seconds = seconds * s.cluster.devices();
  const double peak = device_seconds * mean_peak_flops(s.cluster);
  row.tokens_per_second = static_cast<double>(s.work.tokens_per_step()) / device_seconds;
  row.mfu = model_flops(s.model, s.work) / peak;
  row.hfu = executed_flops(p) / peak;
  row.bubble = share(c.step - step_without_bubble(p, s.replaying()), c.step);
  row.exposed_communication = share(c.step - step_without_communication(p, s.replaying()), c.step);
  return row;
}

std::string joined(std::span<const Profile> profiles, std::string Profile::*member) {
  std::string text;
  for (const Profile& p : profiles) text += (text.empty() ? "" : ",") + p.*member;
  return text;
}

Plan make_plan(const Setting& s, std::span<const Profile> profiles, const PlanOptions& o) {
  SearchOptions searching;
  searching.top = o.top;
  searching.threads = o.threads;
  searching.seconds = o.seconds;
  searching.progress = o.progress;
  const SearchResult found = search(s, searching);
  if (found.best.empty()) throw no_layout(s, found);

  Plan plan;
  plan.model = s.model;
  plan.work = s.work;
  plan.cluster = s.cluster;
  plan.runtime = s.runtime.name;
  plan.profile = joined(profiles, &Profile::name);
  plan.profile_digest = joined(profiles, &Profile::digest);
  plan.engine = std::string(engine_signature());
  if (const Calibration* calibration = s.costs.calibration()) plan.calibration = *calibration;
  const std::vector<Robustness> sure = robustness(s, profiles, found.best, o.threads);
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  std::vector<CostCache> caches(o.threads == 0 ? cores : o.threads, CostCache(s.costs));
  plan.rows.resize(found.best.size());
  for_each_parallel(caches, plan.rows.size(), [&](CostCache& costs, std::size_t i) {
    const Setting of = of_sample(s, found.best[i].sample);
    Lowered lowered = lower(of, found.best[i].layout, costs);
    if (i == 0) {
      const Replay r = replay_at_clock(lowered.program, s.replaying());
      plan.fitted_share = surely_known(critical_path(lowered.program, r));
    } else if (clocks_unknown(lowered.program)) {
      ClockedProgram(lowered.program).makespan(s.replaying());
    }
    plan.rows[i] = describe(s, found.best[i], lowered);
    plan.rows[i].stays_best = sure[i].stays_best;
    plan.rows[i].worst_regret = sure[i].worst_regret;
  });
  plan.searched.enumerated = found.enumerated;
  for (const auto& [rule, count] : found.refused) plan.searched.refused[std::string(rule)] = count;
  plan.searched.out_of_memory = found.out_of_memory;
  plan.searched.pruned_bound = found.pruned_bound;
  plan.searched.pruned_relaxed = found.pruned_relaxed;
  plan.searched.replayed = found.replayed;
  plan.searched.unseen = found.unseen;
  // Every layout was replayed, or a lower bound of it did not beat the rows, or is the bound.
  const Picoseconds step = found.best.front().step;
  plan.bound = found.unseen > 0 ? std::min(step, found.floor) : step;
  plan.gap = 1 - static_cast<double>(plan.bound) / static_cast<double>(step);
  if (!s.sides.empty()) plan.alone = plan_types_alone(s, profiles, o);
  return plan;
}

}  // namespace steploom
