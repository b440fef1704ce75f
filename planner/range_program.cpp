#include "planner/range_program.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <tuple>
#include <utility>

namespace steploom {
namespace {

bool is_exchange(const OpNode& node) {
  return node.group == CommGroup::ep && node.work.kind == OpKind::all_to_all;
}

bool communicates(const OpNode& node) {
  return node.stream != StreamKind::compute;
}

// Operators that are alike get one number, so that ranges of alike layers are timed once.
class Alike {
 public:
  int number(const OpNode& n) {
    const Work& w = n.work;
    return numbers_
        .try_emplace({n.name, w.kind, w.m, w.n, w.k, w.bytes, w.window},
                     static_cast<int>(numbers_.size()))
        .first->second;
  }

 private:
  std::map<std::tuple<std::string, OpKind, std::int64_t, std::int64_t, std::int64_t, Bytes,
                      std::int64_t>,
           int>
      numbers_;
};

class Chooser {
 public:
  Chooser(const OpGraph& forward, const PartRules& rules, const RangeProgram& options,
          const PartTime& time)
      : g_(forward), rules_(rules), options_(options), time_(time) {
    Alike alike;
    for (OpId op = 0; op < g_.size(); ++op) {
      number_.push_back(alike.number(g_.node(op)));
      if (is_exchange(g_.node(op))) exchanges_.push_back(op);
    }
  }

  RangeChoice run() {
    RangeChoice out;
    const std::vector<OpId> borders = group_borders();
    const OpId longest = range_limit();
    struct Best {
      Picoseconds time = 0;
      std::size_t from = 0;
      int parts = 1;
    };
    std::vector<Best> best(borders.size());
    for (std::size_t n = 1; n < borders.size(); ++n) {
      best[n] = {best[n - 1].time + timed(borders[n - 1], borders[n], 1), n - 1, 1};
      for (std::size_t i = n; i-- > 0 && borders[n] - borders[i] <= longest;) {
        if (!holds_exchange(borders[i], borders[n])) continue;
        for (int k = 1; k <= options_.most_parts; ++k) {
          if (k > 1 && !allowed(borders[i], borders[n], k)) continue;
          const Picoseconds t = best[i].time + timed(borders[i], borders[n], k);
          if (t < best[n].time) best[n] = {t, i, k};
        }
      }
    }
    out.time = best.back().time;
    for (std::size_t n = borders.size() - 1; n > 0; n = best[n].from)
      if (best[n].parts > 1)
        out.ranges.push_back({borders[best[n].from], borders[n], best[n].parts});
    std::reverse(out.ranges.begin(), out.ranges.end());
    return out;
  }

 private:
  // Between the exchanges of two layers: from a combine to the dispatch after it.
  Picoseconds group_time() const {
    const OpId from = exchanges_.size() >= 3 ? exchanges_[1] + 1 : 0;
    const OpId to = exchanges_.size() >= 3 ? exchanges_[2] : static_cast<OpId>(g_.size());
    Picoseconds sum = 0;
    for (OpId op = from; op < to; ++op)
      if (!runs_whole(g_.node(op))) sum += time_(g_.node(op), 1);
    return std::max<Picoseconds>(1, sum / options_.groups);
  }

  // Operators from an exchange to the same one of the next layer.
  OpId range_limit() const {
    OpId most = 0;
    for (std::size_t i = 2; i < exchanges_.size(); ++i)
      most = std::max(most, exchanges_[i] - exchanges_[i - 2]);
    return most == 0 ? static_cast<OpId>(g_.size()) : most;
  }

  std::vector<OpId> group_borders() const {
    std::vector<OpId> borders{0};
    const Picoseconds longest = group_time();
    Picoseconds sum = 0;
    for (OpId op = 0; op < g_.size(); ++op) {
      const OpNode& node = g_.node(op);
      const auto border = [&](OpId at) {
        if (at > borders.back()) borders.push_back(at);
        sum = 0;
      };
      if (is_exchange(node)) border(op);
      if (!runs_whole(node)) sum += time_(node, 1);
      if (is_exchange(node) || sum >= longest) border(op + 1);
    }
    if (borders.back() < g_.size()) borders.push_back(static_cast<OpId>(g_.size()));
    return borders;
  }

  bool holds_exchange(OpId first, OpId last) const {
    const auto at = std::lower_bound(exchanges_.begin(), exchanges_.end(), first);
    return at != exchanges_.end() && *at < last;
  }

  using Key = std::pair<std::vector<int>, int>;
  Key key(OpId first, OpId last, int parts) const {
    return {{number_.begin() + first, number_.begin() + last}, parts};
  }

  Picoseconds timed(OpId first, OpId last, int parts) {
    const auto [it, fresh] = times_.try_emplace(key(first, last, parts), 0);
    if (fresh) it->second = range_time(g_, {first, last, parts}, time_);
    return it->second;
  }

  bool allowed(OpId first, OpId last, int parts) {
    const auto [it, fresh] = allowed_.try_emplace(key(first, last, parts), false);
    if (fresh) {
      PartRules rules = rules_;
      rules.parts = parts;
      it->second = infer_axes(g_, first, last, rules).found();
    }
    return it->second;
  }

  const OpGraph& g_;
  PartRules rules_;
  RangeProgram options_;
  const PartTime& time_;
  std::vector<int> number_;      // by operator
  std::vector<OpId> exchanges_;  // all-to-alls of the experts
  std::map<Key, Picoseconds> times_;
  std::map<Key, bool> allowed_;
};

}  // namespace

std::vector<int> stages_of(const OpGraph& graph, OpId first, OpId last) {
  std::vector<int> stages;
  int stage = -1;
  bool was = false;
  for (OpId op = first; op < last; ++op) {
    const OpNode& node = graph.node(op);
    if (!runs_whole(node) && (stage < 0 || communicates(node) != was)) {
      ++stage;
      was = communicates(node);
    }
    stages.push_back(std::max(stage, 0));
  }
  return stages;
}

Picoseconds range_time(const OpGraph& g, const CutRange& range, const PartTime& time) {
  const std::vector<int> stages = stages_of(g, range.first, range.last);
  const auto k = static_cast<std::size_t>(range.parts);
  const std::size_t n = range.last - range.first;
  std::vector<Picoseconds> each(n, 0), end(n * k, 0);
  std::vector<std::vector<std::size_t>> before(n);
  for (std::size_t i = 0; i < n; ++i) {
    const OpId op = range.first + static_cast<OpId>(i);
    if (runs_whole(g.node(op))) continue;
    each[i] = time(g.node(op), range.parts);
    for (const OpGraph::Edge& e : g.predecessors(op))
      if (e.op >= range.first && !runs_whole(g.node(e.op))) before[i].push_back(e.op - range.first);
  }
  std::array<Picoseconds, 2> queue{};
  for (std::size_t from = 0; from < n;) {
    std::size_t to = from;
    while (to < n && stages[to] == stages[from]) ++to;
    for (std::size_t part = 0; part < k; ++part)
      for (std::size_t i = from; i < to; ++i) {
        const OpNode& node = g.node(range.first + static_cast<OpId>(i));
        if (runs_whole(node)) continue;
        Picoseconds& free = queue[communicates(node) ? 1 : 0];
        Picoseconds start = free;
        for (const std::size_t b : before[i]) start = std::max(start, end[b * k + part]);
        end[i * k + part] = free = start + each[i];
      }
    from = to;
  }
  return std::max(queue[0], queue[1]);
}

RangeChoice choose_ranges(const OpGraph& forward, const PartRules& rules,
                          const RangeProgram& options, const PartTime& time) {
  return Chooser(forward, rules, options, time).run();
}

}  // namespace steploom
