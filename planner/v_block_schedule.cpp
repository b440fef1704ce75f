// V-Half and V-Min (Pipeline Parallelism with Controllable Memory, arXiv 2405.15362, section 3):
// a building block, the four passes of one micro-batch on every rank of a V at offsets that
// repeat every six units without collision. The less time lies between a forward pass and its
// backward pass, the fewer micro-batches are in flight: about half or a third of 1F1B's.
//
// Repeated blocks leave units idle while the pipeline fills and drains. There passes move to the
// first idle unit after what they wait for, as long as no rank ever holds more than the block does;
// then W's are laid anew into the gaps that are left (schedule_weights.h).
#include <algorithm>
#include <array>
#include <cassert>
#include <climits>
#include <numeric>

#include "planner/schedule_weights.h"

namespace steploom {
namespace {

constexpr int kPeriod = 6;  // F, B and W of two chunks, a unit each
constexpr int kPasses = 4;  // of one micro-batch on a rank: F of chunk 0 and 1, B of chunk 1 and 0
constexpr int kWeight = kPasses;

// When rank r of p runs them.
using Offsets = std::array<int, kPasses>;

class Units {
 public:
  Units(const std::vector<Offsets>& block, std::int32_t micro_batches)
      : m_(static_cast<std::size_t>(micro_batches)), ranks_(block.size()) {
    for (std::size_t r = 0; r < block.size(); ++r) {
      for (std::size_t k = 0; k < kPasses; ++k)
        for (int i = 0; i < micro_batches; ++i)
          ranks_[r].at[k].push_back(block[r][k] + kPeriod * i);
      lay_weights(ranks_[r]);
    }
    for (const Rank& rank : ranks_)
      peak_ = std::max(peak_, *std::max_element(rank.held.begin(), rank.held.end()));
  }

  int peak() const { return peak_; }

  // Moves passes to earlier units while the pipeline fills and drains.
  void squeeze() {
    struct Move {
      std::uint32_t rank;
      int pass;
      std::uint32_t batch;
      int unit;
    };
    // By unit, then rank: counted, not sorted.
    std::vector<std::size_t> first;
    for (Rank& rank : ranks_) {
      std::fill(rank.taken.begin(), rank.taken.end(), false);
      first.resize(std::max(first.size(), rank.held.size() + 1));
      for (const std::vector<int>& units : rank.at)
        for (const int unit : units) ++first[static_cast<std::size_t>(unit) + 1];
    }
    std::partial_sum(first.begin(), first.end(), first.begin());
    std::vector<Move> order(first.back());
    for (std::size_t r = 0; r < ranks_.size(); ++r)
      for (int k = 0; k <= kWeight; ++k)
        for (std::size_t i = 0; i < ranks_[r].of(k).size(); ++i) {
          const int unit = ranks_[r].of(k)[i];
          order[first[static_cast<std::size_t>(unit)]++] = {static_cast<std::uint32_t>(r), k,
                                                            static_cast<std::uint32_t>(i), unit};
        }
    enum class Phase { fill, steady, drain } phase = Phase::fill;
    for (const auto& [r, k, i, unit] : order) {
      if (phase == Phase::fill && r == 0 && k == kPasses - 1) phase = Phase::steady;
      if (phase != Phase::steady) move(r, k, i, unit);
      if (phase == Phase::steady && k == 0 && i + 1 == m_) phase = Phase::drain;
      ranks_[r].taken[static_cast<std::size_t>(ranks_[r].of(k)[i])] = true;
    }
  }

  ScheduleSlots order() const {
    constexpr std::array<std::pair<SlotKind, int>, kPasses> kKinds{{{SlotKind::forward, 0},
                                                                    {SlotKind::forward, 1},
                                                                    {SlotKind::backward_data, 1},
                                                                    {SlotKind::backward_data, 0}}};
    ScheduleSlots out;
    for (const Rank& rank : ranks_) {
      RankSlots& of_rank = out.emplace_back();
      std::array<std::size_t, kPasses> next{};
      while (of_rank.size() < kPasses * m_) {
        const std::size_t k = next_pass(rank, next);
        of_rank.push_back(
            {kKinds[k].first, static_cast<std::int32_t>(next[k]++), kKinds[k].second});
      }
    }
    return out;
  }

 private:
  struct Rank {
    std::array<std::vector<int>, kPasses + 1> at;  // by pass and micro-batch (W's in turn): unit
    std::vector<bool> taken;                       // by unit
    std::vector<int> held;                         // by unit: micro-batches of its chunks
    std::vector<int>& of(int pass) { return at[static_cast<std::size_t>(pass)]; }
  };

  // Whose unit is the next one, of those that are left.
  static std::size_t next_pass(const Rank& rank, const std::array<std::size_t, kPasses>& next) {
    std::size_t best = 0;
    int unit = INT_MAX;
    for (std::size_t k = 0; k < kPasses; ++k)
      if (next[k] < rank.at[k].size() && rank.at[k][next[k]] < unit) {
        unit = rank.at[k][next[k]];
        best = k;
      }
    return best;
  }

  // W's on the first free units, and what is held meanwhile.
  static void lay_weights(Rank& rank) {
    std::array<std::size_t, kPasses> next{};
    int waiting = 0, held = 0, unit = 0;
    const auto weight = [&] {
      rank.of(kWeight).push_back(unit++);
      rank.held.push_back(--held);
      --waiting;
    };
    for (std::size_t left = kPasses * rank.at[0].size(); left > 0; --left) {
      const std::size_t k = next_pass(rank, next);
      const int at = rank.at[k][next[k]++];
      while (unit < at && waiting > 0) weight();
      for (; unit < at; ++unit) rank.held.push_back(held);
      rank.held.push_back(k < 2 ? ++held : held);
      waiting += k < 2 ? 0 : 1;
      ++unit;
    }
    while (waiting > 0) weight();
    rank.taken.resize(rank.held.size());
  }

  void move(std::size_t r, int k, std::size_t i, int unit) {
    Rank& rank = ranks_[r];
    int after = -1;
    const auto wait_for = [&](int other) { after = std::max(after, other); };
    if (k == kWeight) {
      wait_for(backward_unit(rank, i));
    } else {
      const bool down = k % 2 == 0;  // from rank 0 to the last one
      if (down && r > 0) wait_for(ranks_[r - 1].of(k)[i]);
      if (!down && r + 1 < ranks_.size()) wait_for(ranks_[r + 1].of(k)[i]);
      if (k > 0) wait_for(rank.of(k - 1)[i]);
    }
    if (i > 0) wait_for(rank.of(k)[i - 1]);
    // A forward pass moved holds one more from there on.
    int from = unit;
    for (int u = unit - 1; u > after; --u) {
      if (k < 2 && rank.held[static_cast<std::size_t>(u)] >= peak_) break;
      if (!rank.taken[static_cast<std::size_t>(u)]) from = u;
    }
    rank.of(k)[i] = from;
    if (k >= 2 && k < kWeight) return;
    for (int u = from; u < unit; ++u) rank.held[static_cast<std::size_t>(u)] += k < 2 ? 1 : -1;
  }

  // When the i-th B of either chunk runs.
  static int backward_unit(const Rank& rank, std::size_t i) {
    const std::vector<int>&a = rank.at[2], &b = rank.at[3];
    std::size_t x = i + 1 > b.size() ? i + 1 - b.size() : 0;  // of a's among the first i + 1
    std::size_t low = x, high = std::min(a.size(), i + 1);
    while (low < high) {
      x = (low + high) / 2;
      if (a[x] < b[i - x])
        low = x + 1;
      else
        high = x;
    }
    const int last_a = low > 0 ? a[low - 1] : -1, last_b = i + 1 > low ? b[i - low] : -1;
    return std::max(last_a, last_b);
  }

  std::size_t m_;
  std::vector<Rank> ranks_;
  int peak_ = 0;
};

template <class Block>
ScheduleSlots squeezed(const ScheduleShape& shape, const Block& block) {
  std::vector<Offsets> offsets;
  for (int r = 0; r < shape.ranks; ++r) offsets.push_back(block(r, shape.ranks));
  Units units(offsets, static_cast<std::int32_t>(shape.micro_batches));
  const ScheduleSlots as_laid = units.order();
  units.squeeze();

  ScheduleProblem problem{Placement::v, shape, {}, {}};
  problem.stages.assign(static_cast<std::size_t>(2 * shape.ranks), {1, 1, 1, 0, 0, 1, 1});
  problem.limit.assign(static_cast<std::size_t>(shape.ranks), units.peak());
  ScheduleState state(problem);
  // Squeezed, W's may not find their room.
  std::optional<ScheduleSlots> slots = with_weights(units.order(), {}, state);
  if (!slots) slots = with_weights(as_laid, {}, state);
  assert(slots);
  return std::move(*slots);
}

}  // namespace

ScheduleSlots v_half_schedule(const ScheduleShape& shape) {
  return squeezed(shape, [](int r, int p) {
    const int wait = p % 2 == 0 ? 3 : 0;  // so that no two passes collide
    return Offsets{2 * r, 3 * p - r - 2, 3 * p + wait + 2 * r - 1, 6 * p + wait - r - 2};
  });
}

ScheduleSlots v_min_schedule(const ScheduleShape& shape) {
  return squeezed(shape, [](int r, int p) {
    const int wait = p % 3 == 0 ? 2 : 0;
    return Offsets{r, 2 * p - r - 1, 2 * p + wait + r, 4 * p + wait - r - 1};
  });
}

}  // namespace steploom
