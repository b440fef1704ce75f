#include "planner/search.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <thread>
#include <tuple>

#include "planner/bounds.h"
#include "planner/gradient_choices.h"
#include "planner/lower.h"
#include "planner/parallel.h"
#include "planner/samples.h"
#include "sim/engine.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

constexpr std::size_t kBatch = 16;
constexpr Picoseconds kNever = std::numeric_limits<Picoseconds>::max();

// What one thread remembers.
struct Worker {
  explicit Worker(const Setting& s) : costs(s.costs), bounds(s, costs) {}
  CostCache costs;
  BoundModel bounds;
};

enum class Fate { pruned_bound, pruned_relaxed, slower, out_of_memory, replayed };

bool better(const Candidate& a, const Candidate& b) {
  return std::tie(a.step, a.layout) < std::tie(b.step, b.layout);
}

// The third rung.
void settle(const Replay& r, Candidate& c) {
  c.step = r.makespan;
  c.memory = *std::max_element(r.peak_memory.begin(), r.peak_memory.end());
}

// `reduced`, if asked: may gradients that are reduced in other ways beat `to_beat`?
Fate try_layout(const Setting& s, Worker& w, Picoseconds to_beat, Candidate& c,
                bool* reduced = nullptr) {
  if (c.closed_form >= to_beat) return Fate::pruned_bound;
  if (has_samples(s)) {
    const Sampled sampled = sample_steps(s, w.costs, to_beat, c);
    if (sampled == Sampled::relaxed) return Fate::pruned_relaxed;
    if (sampled == Sampled::replayed) return Fate::slower;
    return c.memory > s.cluster.device.memory ? Fate::out_of_memory : Fate::replayed;
  }
  Lowered lowered = lower(s, c.layout, w.costs);
  if (reduced != nullptr) *reduced = may_beat_reduced(s, lowered.program, to_beat);
  ClockedProgram clocked(lowered.program);
  if (!clocked.may_beat(to_beat)) return Fate::pruned_relaxed;
  c.relaxed = std::max(c.closed_form, clocked.relaxed());
  settle(clocked.replay(s.replaying()), c);
  return c.memory > s.cluster.device.memory ? Fate::out_of_memory : Fate::replayed;
}

// The layout with the best of its choices of gradients (gradient_choices.h), where one beats
// `to_beat`; else what became of the one that went furthest.
Fate try_candidate(const Setting& s, Worker& w, Picoseconds to_beat, Candidate& c) {
  if (c.closed_form >= to_beat) return Fate::pruned_bound;
  Candidate best = c;
  Fate furthest = Fate::pruned_bound;
  const auto consider = [&](const Layout& layout, Picoseconds bound, bool* reduced) {
    Candidate now;
    now.layout = layout;
    now.closed_form = bound;
    const Fate fate = try_layout(s, w, to_beat, now, reduced);
    if (fate >= furthest && (fate != Fate::replayed || furthest != fate || better(now, best))) {
      furthest = fate;
      best = now;
    }
    if (fate == Fate::replayed) to_beat = std::min(to_beat, now.step);
  };
  for (const GradientChoices& choices : gradient_choices(s, c.layout)) {
    const Picoseconds bound = w.bounds.bound(choices.placed).step;
    if (bound >= to_beat) continue;
    bool reduced = false;
    consider(choices.placed, bound, choices.reduced.empty() ? nullptr : &reduced);
    if (!reduced) continue;
    for (const Layout& layout : choices.reduced) consider(layout, bound, nullptr);
  }
  c = best;
  return furthest;
}

// Of the layout and its choices.
Bound least_bound(const Setting& s, BoundModel& bounds, const Layout& layout) {
  Bound least = bounds.bound(layout);
  for (const GradientChoices& choices : gradient_choices(s, layout))
    if (choices.placed != layout)
      least.step = std::min(least.step, bounds.bound(choices.placed).step);
  return least;
}

}  // namespace

Candidate evaluate(const Setting& setting, const Layout& layout, CostCache& costs, Lowered& lowered,
                   const ReplayOptions& options, Replay* replayed) {
  Candidate c;
  c.layout = layout;
  c.closed_form = BoundModel(setting, costs).bound(layout).step;
  ClockedProgram clocked(lowered.program);
  c.relaxed = std::max(c.closed_form, clocked.relaxed());
  Replay r = clocked.replay(options);
  settle(r, c);
  if (replayed != nullptr) *replayed = std::move(r);
  return c;
}

Candidate evaluate(const Setting& setting, const Layout& layout, CostCache& costs) {
  if (has_samples(setting)) {
    Candidate c;
    c.layout = layout;
    c.closed_form = BoundModel(setting, costs).bound(layout).step;
    sample_steps(setting, costs, kNever, c);
    return c;
  }
  Lowered lowered = lower(setting, layout, costs);
  return evaluate(setting, layout, costs, lowered, setting.replaying());
}

SearchResult search(const Setting& s, const SearchOptions& o) {
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::unique_ptr<Worker>> workers;
  for (unsigned i = 0; i < (o.threads == 0 ? cores : o.threads); ++i)
    workers.push_back(std::make_unique<Worker>(s));

  const Space space = enumerate_layouts(s);
  SearchResult result;
  result.enumerated = space.enumerated;
  result.refused = space.refused;
  result.valid = static_cast<std::int64_t>(space.valid.size());

  std::vector<Bound> bounds(space.valid.size());
  for_each_parallel(workers, bounds.size(), [&](std::unique_ptr<Worker>& w, std::size_t i) {
    bounds[i] = least_bound(s, w->bounds, space.valid[i]);
  });

  std::vector<Candidate> open;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    if (bounds[i].memory > s.cluster.device.memory) {
      ++result.out_of_memory;
      if (!result.smallest || bounds[i].memory < result.smallest->second)
        result.smallest = {space.valid[i], bounds[i].memory};
      continue;
    }
    Candidate c;
    c.layout = space.valid[i];
    c.closed_form = bounds[i].step;
    open.push_back(c);
  }
  std::sort(open.begin(), open.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.closed_form, a.layout) < std::tie(b.closed_form, b.layout);
  });

  const auto top = static_cast<std::size_t>(std::max(1, o.top));
  for (std::size_t at = 0; at < open.size(); at += kBatch) {
    const Picoseconds to_beat = result.best.size() < top ? kNever : result.best.back().step;
    if (open[at].closed_form >= to_beat) {
      result.pruned_bound += static_cast<std::int64_t>(open.size() - at);
      break;
    }
    const std::size_t n = std::min(kBatch, open.size() - at);
    std::vector<Fate> fates(n);
    for_each_parallel(workers, n, [&](std::unique_ptr<Worker>& w, std::size_t i) {
      fates[i] = try_candidate(s, *w, to_beat, open[at + i]);
    });
    for (std::size_t i = 0; i < n; ++i) {
      const Candidate& c = open[at + i];
      switch (fates[i]) {
        case Fate::pruned_bound:
          ++result.pruned_bound;
          break;
        case Fate::pruned_relaxed:
          ++result.pruned_relaxed;
          break;
        case Fate::slower:
          ++result.replayed;
          break;
        case Fate::out_of_memory:
          ++result.out_of_memory;
          if (!result.smallest || c.memory < result.smallest->second)
            result.smallest = {c.layout, c.memory};
          break;
        case Fate::replayed:
          ++result.replayed;
          result.best.push_back(c);
          break;
      }
    }
    std::sort(result.best.begin(), result.best.end(), better);
    if (result.best.size() > top) result.best.resize(top);
    if (o.progress) o.progress(static_cast<double>(at + n) / static_cast<double>(open.size()));
  }
  if (!result.best.empty()) result.smallest.reset();
  return result;
}

}  // namespace steploom
