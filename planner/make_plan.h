// From a setting to a Plan: search, then what each row's table shows.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "models/error.h"
#include "planner/lower.h"
#include "planner/plan_file.h"
#include "planner/search.h"
#include "sim/profile.h"

namespace steploom {

struct PlanOptions {
  int top = 5;
  unsigned threads = 0;                  // 0: as many as there are cores; no answer depends on it
  double seconds = 0;                    // SearchOptions::seconds
  std::function<void(double)> progress;  // share of the space that is settled
};

// Throws Error (ExitStatus::negative) if no layout keeps every rule and fits in memory, naming the
// rules that refused the most and the layout that came nearest.
// `profiles`: by type of device. Where there are several, each type's nodes are planned by
// themselves too (Plan::alone).
Plan make_plan(const Setting& setting, std::span<const Profile> profiles,
               const PlanOptions& options);
inline Plan make_plan(const Setting& setting, const Profile& profile, const PlanOptions& options) {
  return make_plan(setting, std::span(&profile, 1), options);
}

// Names, or digests, of profiles by type of device as a plan and its readers have them: "a", "a,b".
std::string joined(std::span<const Profile> profiles, std::string Profile::*member);

// Why no layout was found. An Error with ExitStatus::negative.
Error no_layout(const Setting& setting, const SearchResult& found);

// Fills everything but the sureness from replays of a Program at its clocks (sim/step_clock.h).
// Also for `simulate`.
PlanRow describe(const Setting& setting, const Candidate& candidate, const Lowered& lowered);

// FLOPs that all devices execute in a step, recomputation included.
double executed_flops(const Program& program);

// Throws Error with the rule's name and message if the layout breaks one.
void require_valid(const Setting& setting, const Layout& layout, const std::string& reading);

}  // namespace steploom
