#include "planner/search.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>
#include <memory>
#include <thread>
#include <tuple>

#include "planner/bounds.h"
#include "planner/fullest_rank.h"
#include "planner/gradient_choices.h"
#include "planner/lower.h"
#include "planner/mesh_bound.h"
#include "planner/parallel.h"
#include "planner/rank_blocks.h"
#include "planner/samples.h"
#include "planner/schedule_choices.h"
#include "sim/engine.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

// Groups of layouts at once; few at first, when there is little to beat.
constexpr std::size_t kFirstBatch = 2, kBatch = 16;
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
void settle(const Setting& s, const Program& p, const Replay& r, Candidate& c) {
  c.step = r.makespan;
  const FullestRank fullest = fullest_rank(s, p, r.peak_memory);
  c.memory = fullest.peak;
  c.limit = fullest.limit;
}

// Programs of the meshes of layouts that differ in their partition alone, made where a bound of one
// survives.
class Meshes {
 public:
  Meshes(const Setting& s, CostCache& costs) : s_(s), costs_(costs) {}

  Lowered lower(const Layout& layout) {
    if (layout.partition != partition_) blocks_.forget_forward();
    partition_ = layout.partition;
    return steploom::lower(s_, layout, costs_, blocks_);
  }

  bool may_beat(const Layout& layout, Picoseconds to_beat) {
    MeshBound* bound = bound_of(layout);
    return bound == nullptr || bound->may_beat(layout, to_beat);
  }
  bool may_beat_reduced(const Layout& layout, Picoseconds to_beat) {
    MeshBound* bound = bound_of(layout);
    return bound == nullptr || bound->may_beat_reduced(layout, to_beat);
  }

 private:
  // A mesh too is asked where it has variants that will be.
  MeshBound* bound_of(const Layout& layout) {
    const Layout mesh = mesh_of(layout);
    const bool placed =
        s_.runtime.places_gradients && mesh.ep > 1 && !splits_backward(mesh.schedule);
    if (has_samples(s_) || (mesh == layout && !placed) || !MeshBound::knows(s_, layout))
      return nullptr;
    auto it = bounds_.find(mesh);
    if (it == bounds_.end()) it = bounds_.try_emplace(mesh, s_, mesh, costs_, blocks_).first;
    return &it->second;
  }

  const Setting& s_;
  CostCache& costs_;
  BlockCache blocks_;
  Partition partition_;                 // of those forward passes that are remembered
  std::map<Layout, MeshBound> bounds_;  // by mesh
};

// `reduced`, if asked: may gradients that are reduced in other ways beat `to_beat`?
Fate try_layout(const Setting& s, Worker& w, Meshes& meshes, Picoseconds to_beat, Candidate& c,
                bool* reduced = nullptr) {
  if (c.closed_form >= to_beat) return Fate::pruned_bound;
  if (has_samples(s)) {
    const Sampled sampled = sample_steps(s, w.costs, to_beat, c);
    if (sampled == Sampled::relaxed) return Fate::pruned_relaxed;
    if (sampled == Sampled::replayed) return Fate::slower;
    return c.fits() ? Fate::replayed : Fate::out_of_memory;
  }
  Lowered lowered = meshes.lower(c.layout);
  if (reduced != nullptr)
    *reduced = is_searched(c.layout.schedule) || may_beat_reduced(s, lowered.program, to_beat);
  ClockedProgram clocked(lowered.program);
  if (!clocked.may_beat(to_beat, s.contention != nullptr)) return Fate::pruned_relaxed;
  c.relaxed = std::max(c.closed_form, clocked.relaxed());
  settle(s, lowered.program, clocked.replay(s.replaying()), c);
  return c.fits() ? Fate::replayed : Fate::out_of_memory;
}

Bytes lacks(const Candidate& c) {
  return c.memory - c.limit;
}

// The layout with the best of its schedules and its choices of gradients (schedule_choices.h,
// gradient_choices.h), where one beats `to_beat`; else what became of the one that went furthest.
Fate try_candidate(const Setting& s, Worker& w, Meshes& meshes, Picoseconds to_beat, Candidate& c) {
  if (c.closed_form >= to_beat) return Fate::pruned_bound;
  Candidate best = c;
  Fate furthest = Fate::pruned_bound;
  const auto consider = [&](const Layout& layout, Picoseconds bound, bool* reduced) {
    Candidate now;
    now.layout = layout;
    now.closed_form = bound;
    const Fate fate = try_layout(s, w, meshes, to_beat, now, reduced);
    const bool better_of_two = fate == Fate::replayed        ? better(now, best)
                               : fate == Fate::out_of_memory ? lacks(now) < lacks(best)
                                                             : true;
    if (fate > furthest || (fate == furthest && better_of_two)) {
      furthest = fate;
      best = now;
    }
    if (fate == Fate::replayed) to_beat = std::min(to_beat, now.step);
  };
  for (const Layout& scheduled : schedule_choices(s, c.layout))
    for (const GradientChoices& choices : gradient_choices(s, scheduled)) {
      const Bound bound = w.bounds.bound(choices.placed);
      if (bound.step >= to_beat || !bound.may_fit()) continue;
      bool reduced = !choices.reduced.empty();
      if (meshes.may_beat(choices.placed, to_beat))
        consider(choices.placed, bound.step, reduced ? &reduced : nullptr);
      else
        furthest = std::max(furthest, Fate::pruned_relaxed);
      if (!reduced || !meshes.may_beat_reduced(choices.placed, to_beat)) continue;
      for (const Layout& layout : choices.reduced)
        if (meshes.may_beat(layout, to_beat)) consider(layout, bound.step, nullptr);
    }
  c = best;
  return furthest;
}

// Of the layout and its choices: the least memory, and the least step of those that may fit.
Bound least_bound(const Setting& s, BoundModel& bounds, const Layout& layout) {
  Bound least{kNever, std::numeric_limits<Bytes>::max(), 0};
  for (const Layout& scheduled : schedule_choices(s, layout))
    for (const GradientChoices& choices : gradient_choices(s, scheduled)) {
      const Bound bound = bounds.bound(choices.placed);
      if (bound.memory - bound.limit < least.memory - least.limit)
        least.memory = bound.memory, least.limit = bound.limit;
      if (bound.may_fit()) least.step = std::min(least.step, bound.step);
    }
  return least;
}

bool same_bound(const Layout& a, Layout b) {
  if (BoundModel::known_by(a.partition) != BoundModel::known_by(b.partition)) return false;
  b.partition = a.partition;
  return a == b;
}

// Layouts that differ in their partition alone, by (bound, layout).
using Group = std::vector<Candidate>;

bool sooner(const Candidate& a, const Candidate& b) {
  return std::tie(a.closed_form, a.layout) < std::tie(b.closed_form, b.layout);
}

std::vector<Group> by_mesh(std::vector<Candidate> open) {
  std::map<Layout, Group> groups;
  for (Candidate& c : open) {
    Layout mesh = c.layout;
    mesh.partition = {};
    groups[std::move(mesh)].push_back(std::move(c));
  }
  std::vector<Group> out;
  for (auto& [mesh, group] : groups) {
    std::sort(group.begin(), group.end(), sooner);
    out.push_back(std::move(group));
  }
  std::sort(out.begin(), out.end(),
            [](const Group& a, const Group& b) { return sooner(a.front(), b.front()); });
  return out;
}

Picoseconds to_beat_of(const std::vector<Candidate>& best, std::size_t top) {
  return best.size() < top ? kNever : best[top - 1].step;
}

void keep_best(std::vector<Candidate>& best, std::size_t top) {
  std::sort(best.begin(), best.end(), better);
  if (best.size() > top) best.resize(top);
}

// One after another, each against the best so far and those before it.
std::vector<Fate> try_group(const Setting& s, Worker& w, std::vector<Candidate> best,
                            std::size_t top, Group& group) {
  Meshes meshes(s, w.costs);
  std::vector<Fate> fates;
  for (Candidate& c : group) {
    fates.push_back(try_candidate(s, w, meshes, to_beat_of(best, top), c));
    if (fates.back() != Fate::replayed) continue;
    best.push_back(c);
    keep_best(best, top);
  }
  return fates;
}

void nearest_to_fit(SearchResult& result, const Layout& layout, Bytes memory, Bytes limit) {
  if (result.smallest && memory - limit >= result.smallest->second - result.smallest_limit) return;
  result.smallest = {layout, memory};
  result.smallest_limit = limit;
}

void count(const Candidate& c, Fate fate, SearchResult& result) {
  switch (fate) {
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
      nearest_to_fit(result, c.layout, c.memory, c.limit);
      break;
    case Fate::replayed:
      ++result.replayed;
      result.best.push_back(c);
      break;
  }
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
  settle(setting, lowered.program, r, c);
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

namespace {

// When a search ends that has found something.
class Deadline {
 public:
  explicit Deadline(double seconds) : seconds_(seconds) {}
  bool over() const {
    return seconds_ > 0 && std::chrono::duration<double>(Clock::now() - start_).count() > seconds_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  double seconds_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

SearchResult search(const Setting& s, const SearchOptions& o) {
  const Deadline deadline(o.seconds);
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
  std::vector<std::size_t> apart;  // layouts whose bound is not that of the one before
  for (std::size_t i = 0; i < bounds.size(); ++i)
    if (i == 0 || !same_bound(space.valid[i - 1], space.valid[i])) apart.push_back(i);
  for_each_parallel(workers, apart.size(), [&](std::unique_ptr<Worker>& w, std::size_t k) {
    const std::size_t end = k + 1 < apart.size() ? apart[k + 1] : bounds.size();
    const Bound bound = least_bound(s, w->bounds, space.valid[apart[k]]);
    for (std::size_t i = apart[k]; i < end; ++i) bounds[i] = bound;
  });

  std::vector<Candidate> open;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    if (!bounds[i].may_fit()) {
      ++result.out_of_memory;
      nearest_to_fit(result, space.valid[i], bounds[i].memory, bounds[i].limit);
      continue;
    }
    Candidate c;
    c.layout = space.valid[i];
    c.closed_form = bounds[i].step;
    open.push_back(c);
  }
  const std::size_t all = open.size();
  std::vector<Group> groups = by_mesh(std::move(open));

  const auto top = static_cast<std::size_t>(std::max(1, o.top));
  std::size_t settled = 0;
  for (std::size_t at = 0, n = 0; at < groups.size(); at += n) {
    const Picoseconds to_beat = to_beat_of(result.best, top);
    const Picoseconds least = groups[at].front().closed_form;
    if (least >= to_beat) {
      result.pruned_bound += static_cast<std::int64_t>(all - settled) - result.unseen;
      break;
    }
    n = std::min({kBatch, std::max(kFirstBatch, at), groups.size() - at});
    std::vector<std::vector<Fate>> fates(n);
    for_each_parallel(workers, n, [&](std::unique_ptr<Worker>& w, std::size_t i) {
      if (result.best.empty() || !deadline.over())
        fates[i] = try_group(s, *w, result.best, top, groups[at + i]);
    });
    for (std::size_t i = 0; i < n; ++i) {
      if (fates[i].empty()) {
        if (result.unseen == 0) result.floor = groups[at + i].front().closed_form;
        result.unseen += static_cast<std::int64_t>(groups[at + i].size());
      }
      for (std::size_t k = 0; k < fates[i].size(); ++k)
        count(groups[at + i][k], fates[i][k], result);
      settled += fates[i].size();
    }
    keep_best(result.best, top);
    if (o.progress) o.progress(static_cast<double>(settled) / static_cast<double>(all));
  }
  if (!result.best.empty()) result.smallest.reset();
  return result;
}

}  // namespace steploom
