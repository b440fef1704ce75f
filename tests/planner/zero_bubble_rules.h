// The rules by which zero-bubble's own scheduler lays out stages in line and in a V (arXiv
// 2401.10241, section 3.1 and its code, github.com/sail-sg/zero-bubble-pipeline-parallelism), told
// again as an oracle: ours must never be longer. Nothing here uses ScheduleState. One message time,
// W needs all that F saved; in a V all stages are alike, as they are there.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "planner/schedule_times.h"

namespace steploom {

struct ZeroBubbleRules {
  bool idle_before_first_b = false;                  // no forward pass that would delay the first B
  bool prefer_b = false;                             // leave out forward passes for B's
  bool fill_forward = false, fill_backward = false;  // W's even where a rank may idle
};

// The longest time of a rank; a value for each list of slots, with the times they run at.
class ZeroBubbleLine {
 public:
  ZeroBubbleLine(const ScheduleProblem& problem, const ZeroBubbleRules& rules)
      : slots(problem.stages.size()), q_(problem), rules_(rules), p_(slots.size()) {
    m_ = static_cast<std::size_t>(problem.shape.micro_batches);
    for (auto& kind : ends_) kind.assign(p_, {});
    now_.assign(p_, 0);
    idle_.assign(p_, 0);
    fits = lay();
  }

  bool fits = false;
  ScheduleSlots slots;

 private:
  std::size_t n(std::size_t kind, std::size_t j) const { return ends_[kind][j].size(); }
  Picoseconds cost(std::size_t kind, std::size_t j) const {
    const StageCosts& c = q_.stages[j];
    return kind == 0 ? c.forward : kind == 1 ? c.data : c.weight;
  }
  Picoseconds comm() const { return q_.stages[0].to_next; }
  Bytes held(std::size_t j) const {
    return static_cast<Bytes>(n(0, j)) - static_cast<Bytes>(n(2, j));
  }
  Picoseconds arrives(std::size_t kind, std::size_t j) const {
    if (kind == 0 && j > 0) return ends_[0][j - 1][n(0, j)] + comm();
    if (kind == 1 && j + 1 < p_) return ends_[1][j + 1][n(1, j)] + comm();
    return 0;
  }
  Picoseconds may_idle(std::size_t j) const {
    return *std::max_element(idle_.begin(), idle_.end()) - idle_[j];
  }
  void put(std::size_t kind, std::size_t j) {
    if (kind == 0 && j > 0 && n(0, j) >= n(0, j - 1)) broken_ = true;
    if (kind == 1 && n(1, j) >= n(0, j)) broken_ = true;
    if (broken_) return;
    constexpr SlotKind kKinds[]{SlotKind::forward, SlotKind::backward_data,
                                SlotKind::backward_weight};
    const Picoseconds start = kind == 2 ? now_[j] : std::max(now_[j], arrives(kind, j));
    if (n(0, j) > 0) idle_[j] += start - now_[j];
    slots[j].push_back({kKinds[kind], static_cast<std::int32_t>(n(kind, j))});
    now_[j] = start + cost(kind, j);
    ends_[kind][j].push_back(now_[j]);
  }
  bool weights_before(std::size_t kind, std::size_t j) {
    while (kind == 0 && held(j) + 1 > q_.limit[j]) {
      if (n(2, j) >= n(1, j)) return false;
      put(2, j);
    }
    const Picoseconds input = arrives(kind, j);
    while (n(2, j) < n(1, j) && now_[j] + cost(2, j) <= input) put(2, j);
    if (n(2, j) < n(1, j) && now_[j] < input &&
        (rules_.fill_forward || input - now_[j] > may_idle(j)))
      put(2, j);
    return true;
  }
  void warm_up() {
    for (std::size_t j = 0; j < p_; ++j) put(0, j);
    std::vector<std::size_t> more(p_);
    Picoseconds last = now_[p_ - 1] + cost(1, p_ - 1);
    for (std::size_t j = p_ - 1; j-- > 0;) {
      Picoseconds end = now_[j];
      while (1 + more[j] < m_ && held(j) + static_cast<Bytes>(more[j]) + 1 <= q_.limit[j]) {
        if (rules_.idle_before_first_b ? end + cost(0, j) > last + comm() : end >= last + comm())
          break;
        end += cost(0, j);
        ++more[j];
      }
      last = std::max(end, last + comm()) + cost(1, j);
    }
    for (std::size_t j = 1; j < p_; ++j)
      while (more[j] > 0 && more[j] >= more[j - 1] && 1 + more[j] < m_) --more[j];
    for (std::size_t j = 0; j < p_; ++j)
      while (more[j]-- > 0) put(0, j);
    for (std::size_t j = p_; j-- > 0;) put(1, j);
  }
  bool wants_forward(std::size_t j) const {
    if (n(0, j) >= m_) return false;
    if (!rules_.prefer_b || j + 1 == p_ || n(0, j) < n(0, j + 1) + 2) return true;
    const Picoseconds back = now_[j + 1] + cost(0, j + 1) + cost(1, j + 1) + comm();
    if (now_[j] >= back) return false;
    Picoseconds weights = 0;
    Bytes memory = held(j) + 1;
    for (std::size_t w = n(2, j); memory > q_.limit[j] && w < n(1, j); ++w) {
      weights += cost(2, j);
      --memory;
    }
    if (now_[j] + cost(0, j) + weights <= back) return true;
    return back - now_[j] > may_idle(j);
  }
  bool lay() {
    warm_up();
    if (broken_) return false;
    for (std::size_t i = 1; i < m_; ++i) {
      std::vector<bool> forward(p_);
      for (std::size_t j = 0; j < p_; ++j) forward[j] = wants_forward(j);
      for (std::size_t j = p_ - 1; j-- > 0;) forward[j] = forward[j] && forward[j + 1];
      for (std::size_t j = 0; j < p_; ++j) {
        if (!forward[j]) continue;
        if (j > 0 && n(0, j) >= n(0, j - 1)) return false;
        if (!weights_before(0, j)) return false;
        put(0, j);
      }
      for (std::size_t j = p_; j-- > 0;) {
        if (n(1, j) >= n(0, j)) return false;
        if (!weights_before(1, j)) return false;
        while (j == 0 && n(0, 0) == m_ && n(2, 0) < n(1, 0)) put(2, 0);
        put(1, j);
      }
    }
    for (std::size_t j = 0; j < p_; ++j)
      while (n(2, j) < m_) put(2, j);
    return !broken_;
  }

  const ScheduleProblem& q_;
  const ZeroBubbleRules rules_;
  std::size_t p_, m_ = 0;
  std::array<std::vector<std::vector<Picoseconds>>, 3> ends_;  // by F, B, W and rank
  std::vector<Picoseconds> now_, idle_;
  bool broken_ = false;  // a pass without its input: their code stops there
};

// Two chunks a rank in a V, which all stages share alike: `limit` chunks of activations a rank.
class ZeroBubbleV {
 public:
  // `approved`: what ranks idled in an earlier trial, empty: none.
  ZeroBubbleV(const ScheduleProblem& problem, const ZeroBubbleRules& rules,
              std::vector<Picoseconds> approved = {})
      : slots(static_cast<std::size_t>(problem.shape.ranks)),
        idle(slots.size()),
        q_(problem),
        rules_(rules),
        approved_(std::move(approved)),
        p_(slots.size()),
        m_(static_cast<std::size_t>(problem.shape.micro_batches)),
        now_(p_),
        waiting_(p_) {
    for (auto& kind : ends_)
      for (auto& chunk : kind) chunk.assign(p_, {});
    if (approved_.empty()) approved_.assign(p_, -1);
    fits = lay();
  }

  bool fits = false;
  ScheduleSlots slots;
  std::vector<Picoseconds> idle;
  Picoseconds most_idle() const { return *std::max_element(idle.begin(), idle.end()); }

 private:
  std::size_t n(std::size_t kind, std::size_t c, std::size_t j) const {
    return ends_[kind][c][j].size();
  }
  Picoseconds cost(std::size_t kind) const {
    const StageCosts& c = q_.stages[0];
    return kind == 0 ? c.forward : kind == 1 ? c.data : c.weight;
  }
  Bytes held(std::size_t j) const {
    return static_cast<Bytes>(n(0, 0, j) + n(0, 1, j)) -
           static_cast<Bytes>(n(2, 0, j) + n(2, 1, j));
  }
  // The rank whose pass of the same chunk comes before; p: none.
  std::size_t from(std::size_t c, std::size_t j) const {
    return c == 0 ? (j > 0 ? j - 1 : p_) : j + 1;
  }
  // When the i-th input is there; −1: not yet laid out.
  Picoseconds arrives(std::size_t kind, std::size_t c, std::size_t j, std::size_t i) const {
    const std::size_t other = from(c, j);
    if (other == p_) return 0;
    return i < n(kind, c, other) ? ends_[kind][c][other][i] + q_.stages[0].to_next : -1;
  }
  bool put(std::size_t kind, std::size_t c, std::size_t j) {
    constexpr SlotKind kKinds[]{SlotKind::forward, SlotKind::backward_data,
                                SlotKind::backward_weight};
    const std::size_t i = n(kind, c, j);
    if (i >= m_ || (kind == 0 && held(j) + 1 > q_.limit[j])) return false;
    const Picoseconds input = kind == 2 ? 0 : arrives(kind, c, j, i);
    // In a V chunk 1 follows chunk 0 forward, and B's of chunk 0 those of chunk 1; zero-bubble
    // counts B's chunks the other way round.
    if (input < 0 || (kind == 0 && c == 1 && n(0, 0, j) <= i)) return false;
    if (kind == 1 && (n(0, 1, j) <= i || (c == 1 && n(1, 0, j) <= i))) return false;
    const Picoseconds start = std::max(now_[j], input);
    if (n(0, 0, j) > 0) idle[j] += start - now_[j];
    now_[j] = start + cost(kind);
    ends_[kind][c][j].push_back(now_[j]);
    if (kind == 1) waiting_[j].push_back(c);
    slots[j].push_back({kKinds[kind], static_cast<std::int32_t>(i),
                        static_cast<std::int32_t>(kind == 0 ? c : 1 - c)});
    return true;
  }
  bool weight(std::size_t j) {
    if (waiting_[j].empty()) return false;
    const std::size_t c = waiting_[j].front();
    waiting_[j].erase(waiting_[j].begin());
    return put(2, c, j);
  }
  bool weights_before(std::size_t kind, std::size_t c, std::size_t j, bool fill) {
    const Picoseconds input = arrives(kind, c, j, n(kind, c, j));
    while (from(c, j) < p_ && !waiting_[j].empty() && input >= now_[j] + cost(2)) weight(j);
    const Picoseconds most =
        std::max(most_idle(), *std::max_element(approved_.begin(), approved_.end()) - approved_[j]);
    if (fill && from(c, j) < p_ && !waiting_[j].empty() && input - now_[j] > most - idle[j])
      weight(j);
    return put(kind, c, j);
  }
  bool warm_up() {
    for (std::size_t j = 0; j < p_; ++j)
      if (!put(0, 0, j)) return false;
    for (std::size_t j = p_; j-- > 0;) {
      if (j + 1 < p_) {
        const Picoseconds input = arrives(0, 1, j, 0);
        while (held(j) + static_cast<Bytes>(2 + 2 * j) <= q_.limit[j] &&
               now_[j] + cost(0) <= input && n(0, 0, j) < m_)
          for (std::size_t k = 0; k <= j; ++k)
            if (!put(0, 0, k)) return false;
      }
      if (!put(0, 1, j)) return false;
    }
    std::size_t chunk = 0;
    for (std::size_t j = 1; j < p_; ++j)
      while (n(0, 0, j) + n(0, 1, j) < n(0, 0, j - 1) + n(0, 1, j - 1) ||
             (n(0, 1, j) <= n(0, 1, j - 1) && n(0, 1, j - 1) < m_)) {
        for (std::size_t k = p_; k-- > j;)
          if (n(0, chunk, k) < m_ && !put(0, chunk, k)) return false;
        chunk = 1 - chunk;
      }
    return true;
  }
  // Chunk 0 of B's is the last stage's rank's first: as zero-bubble counts them, 1 before 0.
  bool lay() {
    if (!warm_up()) return false;
    for (std::size_t round = 0; round < 2 * m_; ++round) {
      std::vector<std::size_t> first, second;
      for (std::size_t j = 0; j < p_; ++j) {
        const std::size_t i = n(1, 1, j);
        const bool one = i < n(1, 0, j) && (j + 1 == p_ || i < n(1, 1, j + 1) || n(1, 0, j) >= m_);
        (one ? second : first).push_back(j);
      }
      std::reverse(second.begin(), second.end());
      for (const std::size_t j : second)
        if (!weights_before(1, 1, j, true)) return false;
      for (const std::size_t j : first)
        if (!weights_before(1, 0, j, rules_.fill_backward)) return false;
      for (std::size_t j = 0; j < p_; ++j) {
        if (n(0, 1, j) >= m_) continue;
        std::size_t c = 0;
        if (n(0, 1, j) >= n(0, 0, j))
          c = 0;
        else if (j + 1 == p_ || n(0, 1, j) < n(0, 1, j + 1))
          c = 1;
        else if (n(0, 0, j) >= m_ || (j > 0 && n(0, 0, j) >= n(0, 0, j - 1)))
          continue;
        while (held(j) + 1 > q_.limit[j])
          if (!weight(j)) return false;
        if (!weights_before(0, c, j, rules_.fill_forward)) return false;
      }
    }
    for (std::size_t j = 0; j < p_; ++j)
      while (!waiting_[j].empty())
        if (!weight(j)) return false;
    return true;
  }

  const ScheduleProblem& q_;
  const ZeroBubbleRules rules_;
  std::vector<Picoseconds> approved_;
  std::size_t p_, m_;
  std::array<std::array<std::vector<std::vector<Picoseconds>>, 2>, 3>
      ends_;  // by kind, chunk, rank
  std::vector<Picoseconds> now_;
  std::vector<std::vector<std::size_t>> waiting_;  // by rank: chunks of W's
};

}  // namespace steploom
