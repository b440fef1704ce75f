#include "tools/whatif.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>

#include "models/error.h"
#include "planner/lower.h"
#include "planner/make_plan.h"
#include "planner/parallel.h"
#include "planner/search.h"

namespace steploom {
namespace {

QuestionFlags flags_at(QuestionFlags flags, const std::vector<Sweep>& sweeps,
                       const WhatIfPoint& point) {
  for (std::size_t i = 0; i < sweeps.size(); ++i) apply(sweeps[i], point.at[i], flags);
  flags.quiet = true;
  return flags;
}

// Without what `plan` adds for its rows: how sure they are.
void settle(const QuestionFlags& flags, unsigned threads, WhatIfPoint& point) {
  try {
    const auto question = Question::from_flags(flags);
    const Setting& s = question->setting();
    point.devices = s.cluster.devices();
    SearchOptions options;
    options.top = 1;
    options.threads = threads;
    const SearchResult found = search(s, options);
    if (found.best.empty()) throw no_layout(s, found);
    CostCache costs(s.costs);
    const Candidate& best = found.best.front();
    point.best = describe(s, best, lower(s, best.layout, costs));
  } catch (const Error& e) {
    const Error::Where& why = e.where();
    point.failure =
        e.status() == ExitStatus::negative ? why.found + "; " + why.hint : std::string(e.what());
  }
}

// The product of the values of the sweeps after this one.
std::size_t stride_of(const std::vector<Sweep>& sweeps, std::size_t sweep) {
  std::size_t stride = 1;
  for (std::size_t i = sweep + 1; i < sweeps.size(); ++i) stride *= sweeps[i].values.size();
  return stride;
}

Layout without_replicas(Layout l) {
  l.dp = 1;
  return l;
}

}  // namespace

std::size_t point_count(const std::vector<Sweep>& sweeps) {
  std::size_t count = 1;
  for (const Sweep& s : sweeps) count *= s.values.size();
  return count;
}

std::vector<WhatIfPoint> what_if(const QuestionFlags& flags, const std::vector<Sweep>& sweeps,
                                 unsigned threads,
                                 const std::function<void(std::size_t)>& progress) {
  std::vector<WhatIfPoint> points(point_count(sweeps));
  for (std::size_t p = 0; p < points.size(); ++p)
    for (std::size_t i = 0; i < sweeps.size(); ++i)
      points[p].at.push_back(p / stride_of(sweeps, i) % sweeps[i].values.size());

  // Searches take longer the more devices and sequences there are; long ones begin first.
  std::vector<std::size_t> order(points.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<double> size;
  for (const WhatIfPoint& point : points) {
    const QuestionFlags f = flags_at(flags, sweeps, point);
    size.push_back(static_cast<double>(f.nodes.value_or(1)) * f.gpus.value_or(8) *
                   static_cast<double>(f.global_batch.value_or(1)));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return size[a] > size[b]; });

  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  const unsigned all = threads == 0 ? cores : threads;
  const auto together =
      static_cast<unsigned>(std::min<std::size_t>(all, std::max<std::size_t>(1, points.size())));
  std::vector<char> workers(together);
  std::mutex counting;
  std::size_t done = 0;
  for_each_parallel(workers, points.size(), [&](char&, std::size_t i) {
    WhatIfPoint& point = points[order[i]];
    settle(flags_at(flags, sweeps, point), all / together, point);
    const std::lock_guard lock(counting);
    ++done;
    if (progress) progress(done);
  });
  return points;
}

std::vector<LayoutChange> layout_changes(const std::vector<WhatIfPoint>& points,
                                         const std::vector<Sweep>& sweeps) {
  std::vector<LayoutChange> changes;
  for (std::size_t sweep = 0; sweep < sweeps.size(); ++sweep) {
    const std::size_t stride = stride_of(sweeps, sweep);
    for (std::size_t to = 0; to < points.size(); ++to) {
      if (points[to].at[sweep] == 0) continue;
      const std::size_t from = to - stride;
      if (!points[from].best || !points[to].best) continue;
      if (without_replicas(points[from].best->layout) != without_replicas(points[to].best->layout))
        changes.push_back({sweep, from, to});
    }
  }
  return changes;
}

double tokens_per_second(const WhatIfPoint& p) {
  return p.best->tokens_per_second * static_cast<double>(p.devices);
}

double gpu_hours_per_trillion(const WhatIfPoint& p) {
  constexpr double kTokens = 1e12, kSecondsAnHour = 3600;
  return kTokens / p.best->tokens_per_second / kSecondsAnHour;
}

}  // namespace steploom
