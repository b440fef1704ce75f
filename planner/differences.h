// Two ways of running one question: where they differ, and what each difference buys alone.
//
// A difference is one key of the layout's text form, or one habit of the runtime. Each is put into
// the first way by itself and replayed. Savings do not add up: two can undo or need each other.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/layout.h"
#include "planner/setting.h"
#include "sim/cost_cache.h"

namespace steploom {

struct Way {
  const Setting& setting;  // both ways: of one model, workload, cluster and cost model
  Layout layout;
};

struct Difference {
  std::string what;  // "tp", "overlap-grad-reduce"
  std::string now;
  std::string then;
  std::optional<Picoseconds> step;  // with this alone changed; empty where it cannot stand alone
  bool fits = true;                 // in memory, with this alone changed
  std::string refusal;              // the rule that it breaks alone
};

// `costs` must belong to now.setting.costs.
std::vector<Difference> differences(const Way& now, const Way& then, CostCache& costs);

}  // namespace steploom
