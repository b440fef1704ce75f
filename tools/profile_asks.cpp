#include "tools/profile_asks.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "models/error.h"
#include "profiler/profile_of_points.h"
#include "tools/question.h"
#include "tools/report.h"
#include "tools/typical_steps.h"

namespace steploom {
namespace {

PlanShapes shapes_of_plan(const std::string& file, const Profile& base) {
  const Plan plan = load_plan(file);
  need_one_type(plan.cluster, "a session of measurements");
  if (plan.cluster.device.name != base.device.name)
    throw Error({file, "/cluster/device", "'" + base.device.name + "', the profile's device",
                 "'" + plan.cluster.device.name + "'", "name another profile with --base"});
  const CostModel costs(base, plan.cluster);
  const Setting setting{plan.model, plan.work, runtime_named(plan.runtime), plan.cluster, costs};
  return shapes_to_measure(setting, plan.rows.front().layout);
}

Table kernels_table(const std::vector<Ask>& asks, const AsksOfSession& session,
                    const CostModel& model) {
  Table t({{"ask"}, {"predicted", CellKind::time}, {"of step", CellKind::share}});
  for (std::size_t i = 0; i < asks.size(); ++i) {
    Cell share;
    if (session.shapes) share = session.shapes->kernels[i].share;
    t.add({to_text(asks[i]), model.cost({asks[i].work, {}}).time, share});
  }
  return t;
}

Table collectives_table(const std::vector<CollectiveToMeasure>& list) {
  Table t({{"collective"},
           {"ranks", CellKind::integer},
           {"nodes", CellKind::integer},
           {"size", CellKind::bytes},
           {"predicted", CellKind::time},
           {"of step", CellKind::share}});
  for (const CollectiveToMeasure& c : list)
    t.add({std::string(name_of(c.collective)), std::int64_t{c.group.ranks},
           std::int64_t{c.group.nodes}, c.bytes, c.predicted, c.share});
  return t;
}

// The profile that --list lists for, without a GPU to ask.
Profile base_of_list(const ProfileFlags& f) {
  if (!f.base.empty()) return load_profile(f.base);
  if (!f.plan.empty()) {
    const Plan plan = load_plan(f.plan);
    for (const std::string_view name : profile_names())
      if (plan.profile == name) return load_profile(name);
    throw Error({f.plan, "/profile/name", "a built-in profile, or --base with the plan's own",
                 "'" + plan.profile + "'", ""});
  }
  throw Error(
      {"command line", "--list", "--for with a plan, or --base with a profile", "neither", ""});
}

}  // namespace

AsksOfSession asks_of_session(const ProfileFlags& f, const Profile& base) {
  AsksOfSession out;
  std::optional<OpKind> only;
  if (!f.only.empty()) only = kind_of(f.only, "command line", "--only");
  const auto wanted = [only](const Ask& ask) { return !only || ask.work.kind == *only; };
  if (!f.plan.empty()) {
    out.shapes = shapes_of_plan(f.plan, base);
    std::erase_if(out.shapes->kernels, [&](const ShapeToMeasure& s) { return !wanted(s.ask); });
    for (const ShapeToMeasure& s : out.shapes->kernels) out.plan.asks.push_back(s.ask);
    out.plan.in_order = true;
  } else if (!f.asks.empty()) {
    out.plan.asks = read_asks(f.asks);
    refuse_pytorch(out.plan.asks, f.asks);
    out.plan.in_order = true;
  } else {
    out.plan.asks = built_in_asks();
    out.plan.shares = typical_shares(base);
    out.plan.errors = left_out_errors(base, out.plan.asks);
  }
  std::erase_if(out.plan.asks, [&](const Ask& ask) { return !wanted(ask); });
  if (only && out.plan.asks.empty())
    throw Error({"command line", "--only", "a kind of which there are kernels to measure",
                 "'" + f.only + "'", "see them with --list"});
  return out;
}

ExitStatus list_asks(const ProfileFlags& f) {
  const TableFormat format = parse_table_format(f.format, "--format");
  const Profile base = base_of_list(f);
  const AsksOfSession session = asks_of_session(f, base);
  const CostModel model(base, cluster_for(base));
  std::vector<Ask> asks = session.plan.asks;
  double seconds = 0;
  for (const Ask& ask : asks) seconds += seconds_of(ask, model);
  if (!session.plan.in_order)
    asks = by_gain(asks, session.plan.shares, session.plan.errors, {}, model);
  Report report(fmt::format("{} kernels to measure on {}, about {:.1f} minutes", asks.size(),
                            base.device.name, seconds / 60));
  report.value("kernels_to_measure", static_cast<std::int64_t>(asks.size()));
  report.add("kernels", "", kernels_table(asks, session, model));
  if (session.shapes) {
    const PlanShapes& shapes = *session.shapes;
    if (!shapes.collectives.empty())
      report.add("collectives",
                 "Collectives that are modelled; measure them with nccl-tests, then\n"
                 "steploom profile import nccl-tests:",
                 collectives_table(shapes.collectives));
    if (shapes.without_kernel > 0)
      report.note(
          fmt::format("{} shapes ({:.1f} % of the time) have no kernel that steploom can "
                      "measure",
                      shapes.without_kernel, 100 * shapes.without_kernel_share));
  }
  report.print(format);
  return ExitStatus::done;
}

}  // namespace steploom
