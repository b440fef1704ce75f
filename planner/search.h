// The search: the fastest layouts of the whole space, proven by bounds.
//
// Every valid layout gets its closed-form bound (bounds.h). Groups of layouts that differ in their
// partition alone are taken by (least bound, layout) in batches; one whose bound does not beat the
// worst of the best K so far is pruned, then one that mesh_bound.h prunes; else it is lowered,
// relaxed, pruned if that does not beat it, or replayed. The best K are those before the batch and
// of the group, so counts and answer do not depend on the number of threads. When the next bound
// cannot beat them, the search is over and the answer is optimal within the space. A search that is
// given less time ends with the least bound of what it has not looked at.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "planner/lower.h"
#include "planner/setting.h"
#include "planner/space.h"
#include "sim/engine.h"

namespace steploom {

struct SearchOptions {
  int top = 5;           // how many layouts to keep
  unsigned threads = 0;  // 0: as many as there are cores
  double seconds = 0;    // once a layout is found, begin no other after so many; 0: no such end
  // Called between batches with the share of the space that is settled; may be empty.
  std::function<void(double)> progress;
};

struct Candidate {
  Layout layout;
  Picoseconds closed_form = 0;  // first rung
  Picoseconds relaxed = 0;      // second rung
  Picoseconds step = 0;         // replayed
  Bytes memory = 0;             // peak of the worst rank (fullest_rank.h)
  Bytes limit = 0;              // memory of that rank's device
  // Where routing is drawn more than once (samples.h): `relaxed` and `step` are the workload's
  // quantile over the draws, `sample` the draw that has it, and
  int sample = 0;
  Picoseconds median = 0;
  Picoseconds p95 = 0;

  bool fits() const { return memory <= limit; }
};

struct SearchResult {
  std::vector<Candidate> best;  // by step, then layout
  std::int64_t enumerated = 0;
  std::map<std::string_view, std::int64_t> refused;  // by rule
  std::int64_t valid = 0;
  std::int64_t out_of_memory = 0;   // by the closed-form floor or the replay's peak
  std::int64_t pruned_bound = 0;    // closed form no better than the best K
  std::int64_t pruned_relaxed = 0;  // relaxation no better
  std::int64_t replayed = 0;        // in full
  std::int64_t unseen = 0;          // the time was over before
  Picoseconds floor = 0;            // none of those takes less
  // The layout that needs the least memory, where none fits.
  std::optional<std::pair<Layout, Bytes>> smallest;
  Bytes smallest_limit = 0;  // of the device that lacks so much
};

SearchResult search(const Setting& setting, const SearchOptions& options);

// One layout up all three rungs, unless it breaks a rule.
Candidate evaluate(const Setting& setting, const Layout& layout, CostCache& costs);

// The same for a caller that lowered the layout and wants the replay, if `replayed` is given. The
// Program is left at its clocks (sim/step_clock.h).
Candidate evaluate(const Setting& setting, const Layout& layout, CostCache& costs, Lowered& lowered,
                   const ReplayOptions& options, Replay* replayed = nullptr);

}  // namespace steploom
