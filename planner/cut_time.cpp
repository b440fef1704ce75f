#include "planner/cut_time.h"

#include <algorithm>
#include <array>

#include "planner/partition_axes.h"

namespace steploom {
namespace {

constexpr auto kCompute = static_cast<std::uint16_t>(StreamKind::compute);
constexpr Picoseconds kNothing = -(Picoseconds{1} << 61);  // before any start

class Run {
 public:
  Run(const BlockTemplate& block, const CutTime& time)
      : block_(block), time_(time), parts_(block.ops.size(), 1), first_(block.ops.size() + 1, 0) {}

  Picoseconds run(const std::vector<CutRange>& ranges) {
    for (const CutRange& r : ranges)
      for (OpId op = r.first; op < r.last; ++op)
        if (!whole(op)) parts_[op] = r.parts;
    for (std::size_t op = 0; op < parts_.size(); ++op)
      first_[op + 1] = first_[op] + static_cast<std::size_t>(parts_[op]);
    end_.resize(first_.back(), kNothing);
    free_.fill(kNothing);
    free_[kCompute] = 0;
    OpId next = 0;
    for (const CutRange& r : ranges) {
      for (; next < r.first; ++next) issue(next, 0);
      cut(r);
      next = r.last;
    }
    for (; next < parts_.size(); ++next) issue(next, 0);
    return free_[kCompute];
  }

 private:
  bool whole(OpId op) const { return runs_whole(block_.infos[op].group); }
  bool communicates(OpId op) const { return block_.ops[op].stream != kCompute; }

  void cut(const CutRange& r) {
    for (OpId from = r.first; from < r.last;) {
      if (whole(from)) {
        ++from;
        continue;
      }
      OpId to = from;  // the stage's end
      while (to < r.last && (whole(to) || communicates(to) == communicates(from))) ++to;
      for (int part = 0; part < r.parts; ++part)
        for (OpId op = from; op < to; ++op)
          if (part < parts_[op]) issue(op, part);
      from = to;
    }
  }

  void issue(OpId op, int part) {
    if (whole(op)) return;
    const OpTemplate& t = block_.ops[op];
    const int n = parts_[op];
    Picoseconds start = free_[t.stream];
    for (std::uint32_t d = 0; d < t.deps; ++d) {
      const std::uint32_t before = block_.deps[t.first_dep + d];
      // The last of its parts that begins before the end of this one.
      const int m = parts_[before], last = ((part + 1) * m + n - 1) / n - 1;
      start = std::max(start, end_[first_[before] + static_cast<std::size_t>(last)]);
    }
    end_[first_[op] + static_cast<std::size_t>(part)] = free_[t.stream] = start + time_(op, n);
  }

  const BlockTemplate& block_;
  const CutTime& time_;
  std::vector<int> parts_;          // by operator
  std::vector<std::size_t> first_;  // by operator: its first part's place in `end_`
  std::vector<Picoseconds> end_;
  std::array<Picoseconds, kStreamKinds> free_{};
};

}  // namespace

Picoseconds cut_time(const BlockTemplate& forward, const std::vector<CutRange>& ranges,
                     const CutTime& time) {
  return Run(forward, time).run(ranges);
}

}  // namespace steploom
