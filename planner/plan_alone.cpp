#include "planner/plan_alone.h"

#include "models/error.h"
#include "planner/costed_cluster.h"
#include "planner/samples.h"
#include "planner/search.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

PlanRow best_row(const Setting& s, const PlanOptions& o, bool& proven) {
  SearchOptions searching;
  searching.top = 1;
  searching.threads = o.threads;
  searching.seconds = o.seconds;
  const SearchResult found = search(s, searching);
  if (found.best.empty()) throw no_layout(s, found);
  proven = found.unseen == 0;
  const Candidate& best = found.best.front();
  const Setting drawn = of_sample(s, best.sample);
  CostCache costs(s.costs);
  Lowered lowered = lower(drawn, best.layout, costs);
  ClockedProgram(lowered.program).makespan(drawn.replaying());
  return describe(drawn, best, lowered);
}

}  // namespace

std::vector<TypeAlone> plan_types_alone(const Setting& s, std::span<const Profile> profiles,
                                        const PlanOptions& o) {
  std::vector<TypeAlone> out;
  for (std::size_t t = 0; t < s.types(); ++t) {
    const Cluster own = only_of_type(s.cluster, t);
    TypeAlone& alone = out.emplace_back();
    alone.device = own.device.name;
    alone.devices = own.devices();
    try {
      const CostedCluster costed(own, profiles.subspan(t, 1));
      alone.best = best_row(costed.setting(s.model, s.work, s.runtime), o, alone.proven);
    } catch (const Error& e) {
      if (e.status() != ExitStatus::negative) throw;
      alone.failure = e.where().found + "; " + e.where().hint;
    }
  }
  return out;
}

}  // namespace steploom
