#include "planner/weight_gaps.h"

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>
#include <utility>

namespace steploom {
namespace {

constexpr int kMostTries = 250;         // gaps looked at
constexpr std::size_t kMostSets = 400;  // sets of items that a gap is offered
constexpr std::size_t kNearest = 16;    // of them, nearest to the room
constexpr std::size_t kTried = 4;       // of these, with the highest bound

// What the gaps from one on can be filled with if items are cut at will and never overwritten.
Picoseconds cut_at_will(const std::vector<Picoseconds>& room, const std::vector<GapItem>& items,
                        const std::vector<int>& placed, std::size_t from) {
  std::vector<Picoseconds> comes(room.size(), 0);
  for (std::size_t i = 0; i < items.size(); ++i) {
    const int first = std::max(items[i].first, static_cast<int>(from));
    if (placed[i] < 0 && first <= items[i].last)
      comes[static_cast<std::size_t>(first)] += items[i].time;
  }
  Picoseconds filled = 0, there = 0;
  for (std::size_t j = from; j < room.size(); ++j) {
    there += comes[j];
    const Picoseconds taken = std::min(room[j], there);
    filled += taken;
    there -= taken;
  }
  return filled;
}

class Filling {
 public:
  Filling(const std::vector<Picoseconds>& room, const std::vector<GapItem>& items)
      : room_(room), items_(items), placed_(items.size(), -1) {
    best_.gap.assign(items.size(), -1);
    best_.bound = cut_at_will(room_, items_, placed_, 0);
  }

  GapFilling run() {
    from(0, 0);
    return std::move(best_);
  }

 private:
  // Equal items that may lie in the gap, those that must go first first.
  struct Alike {
    Picoseconds time = 0;
    std::vector<std::size_t> items;
  };
  struct Set {
    std::vector<std::size_t> counts;  // by Alike
    Picoseconds sum = 0;
    Picoseconds bound = 0;  // of what is filled in the end
  };

  std::vector<Alike> there(int gap) const {
    std::map<Picoseconds, std::vector<std::size_t>, std::greater<>> by_time;
    for (std::size_t i = 0; i < items_.size(); ++i)
      if (placed_[i] < 0 && items_[i].first <= gap && gap <= items_[i].last && items_[i].time > 0)
        by_time[items_[i].time].push_back(i);
    std::vector<Alike> out;
    for (auto& [time, list] : by_time) {
      std::stable_sort(list.begin(), list.end(), [this](std::size_t a, std::size_t b) {
        return items_[a].last < items_[b].last;
      });
      out.push_back({time, std::move(list)});
    }
    return out;
  }

  // Sets that leave no room for what is left, or whose every item is needed to go beyond the room.
  std::vector<Set> sets(const std::vector<Alike>& alike, Picoseconds room) const {
    std::vector<Set> out;
    Set set;
    set.counts.assign(alike.size(), 0);
    const auto add = [&](const auto& self, std::size_t type) -> void {
      if (out.size() >= kMostSets) return;
      if (type == alike.size() || set.sum >= room) {
        for (std::size_t t = 0; t < alike.size(); ++t) {
          const bool left = set.counts[t] < alike[t].items.size();
          if (left && set.sum + alike[t].time <= room) return;               // would fit
          if (set.counts[t] > 0 && set.sum - alike[t].time >= room) return;  // not needed
        }
        out.push_back(set);
        return;
      }
      const Set before = set;
      std::size_t most = 0;
      while (most < alike[type].items.size() && set.sum < room) {
        ++most;
        set.sum += alike[type].time;
      }
      for (std::size_t n = most + 1; n-- > 0;) {
        set = before;
        set.counts[type] = n;
        set.sum += static_cast<Picoseconds>(n) * alike[type].time;
        self(self, type + 1);
      }
      set = before;
    };
    add(add, 0);
    std::stable_sort(out.begin(), out.end(), [room](const Set& a, const Set& b) {
      const auto misfit = [room](const Set& s) {
        return s.sum > room ? s.sum - room : room - s.sum;
      };
      return misfit(a) < misfit(b);
    });
    if (out.size() > kNearest) out.resize(kNearest);
    return out;
  }

  void from(std::size_t gap, Picoseconds filled) {
    if (filled > best_.filled) {
      best_.filled = filled;
      best_.gap = placed_;
    }
    if (gap == room_.size() || best_.optimal() || ++tries_ > kMostTries) return;
    const std::vector<Alike> alike = there(static_cast<int>(gap));
    std::vector<Set> offered = sets(alike, room_[gap]);
    const auto place = [&](const Set& set, int at) {
      for (std::size_t t = 0; t < alike.size(); ++t)
        for (std::size_t i = 0; i < set.counts[t]; ++i) placed_[alike[t].items[i]] = at;
    };
    for (Set& set : offered) {
      place(set, static_cast<int>(gap));
      set.bound =
          filled + std::min(room_[gap], set.sum) + cut_at_will(room_, items_, placed_, gap + 1);
      place(set, -1);
    }
    std::stable_sort(offered.begin(), offered.end(),
                     [](const Set& a, const Set& b) { return a.bound > b.bound; });
    if (offered.size() > kTried) offered.resize(kTried);
    for (const Set& set : offered) {
      if (best_.optimal() || set.bound <= best_.filled) return;
      place(set, static_cast<int>(gap));
      from(gap + 1, filled + std::min(room_[gap], set.sum));
      place(set, -1);
    }
  }

  const std::vector<Picoseconds>& room_;
  const std::vector<GapItem>& items_;
  std::vector<int> placed_;
  GapFilling best_;
  int tries_ = 0;
};

}  // namespace

GapFilling fill_gaps(const std::vector<Picoseconds>& room, const std::vector<GapItem>& items) {
  return Filling(room, items).run();
}

}  // namespace steploom
