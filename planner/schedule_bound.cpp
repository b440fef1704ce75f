#include "planner/schedule_bound.h"

#include <algorithm>

namespace steploom {
namespace {

// Of a seat; see the header.
struct Way {
  Picoseconds before = 0;  // until a micro-batch can start F there
  Picoseconds round = 0;   // r
  Picoseconds after = 0;   // t
};

std::vector<Way> ways_of(const ScheduleProblem& problem, const std::vector<Seat>& seats) {
  std::vector<Way> ways(seats.size());
  const auto costs = [&](int seat) -> const StageCosts& {
    return problem.stages[static_cast<std::size_t>(seats[static_cast<std::size_t>(seat)].stage)];
  };
  for (std::size_t first = 0; first < seats.size(); ++first) {
    if (seats[first].stage != 0) continue;
    Way way;
    way.after = costs(static_cast<int>(first)).weight;
    std::vector<int> line;
    for (int at = static_cast<int>(first); at >= 0; at = seats[static_cast<std::size_t>(at)].next)
      line.push_back(at);
    const auto far = [&](std::size_t k) {
      return seats[static_cast<std::size_t>(line[k])].rank !=
             seats[static_cast<std::size_t>(line[k + 1])].rank;
    };
    for (std::size_t k = 0; k < line.size(); ++k) {
      ways[static_cast<std::size_t>(line[k])] = way;
      if (k + 1 == line.size()) break;
      way.before += costs(line[k]).forward + (far(k) ? costs(line[k]).to_next : 0);
      way.after += costs(line[k]).data + (far(k) ? costs(line[k + 1]).to_previous : 0);
    }
    Picoseconds round = 0;
    for (std::size_t k = line.size(); k-- > 0;) {
      ways[static_cast<std::size_t>(line[k])].round = round;
      round += costs(line[k]).forward + costs(line[k]).data;
      if (k > 0 && far(k - 1)) round += costs(line[k - 1]).to_next + costs(line[k]).to_previous;
    }
  }
  return ways;
}

// The most time that passes may take which fill `limit` at so many bytes each; `count`: so many
// there are.
Picoseconds most_within(Bytes limit, Bytes each, Picoseconds time, std::int64_t count) {
  return time * (each <= 0 ? count : std::min<std::int64_t>(count, limit / each));
}

// Fractions of passes of several seats: the best time a byte serves for all, unless all are alike.
Picoseconds most_within(Bytes limit, const std::vector<std::pair<Bytes, Picoseconds>>& passes,
                        std::int64_t count) {
  Picoseconds all = 0, time = 0;
  Bytes least = INT64_MAX;
  bool alike = true;
  for (const auto& [bytes, each] : passes) {
    all += each * count;
    alike = alike && bytes == passes.front().first;
    time = std::max(time, each);
    least = std::min(least, bytes);
  }
  if (least <= 0) return all;
  if (alike)
    return std::min(
        all, most_within(limit, least, time, count * static_cast<std::int64_t>(passes.size())));
  long double most = 0;
  for (const auto& [bytes, each] : passes)
    most = std::max(most, static_cast<long double>(each) / static_cast<long double>(bytes));
  const long double fill = most * static_cast<long double>(limit);
  return fill >= static_cast<long double>(all) ? all : static_cast<Picoseconds>(fill) + 1;
}

}  // namespace

ScheduleBound schedule_bound(const ScheduleProblem& problem) {
  const std::vector<Seat> seats = seats_of(problem.placement, problem.shape);
  const std::vector<Way> ways = ways_of(problem, seats);
  const auto chunks = static_cast<std::size_t>(problem.shape.chunks);
  ScheduleBound out;
  for (std::size_t rank = 0; rank < static_cast<std::size_t>(problem.shape.ranks); ++rank) {
    const bool limited = !problem.limit.empty();
    const Bytes limit = limited ? problem.limit[rank] : 0;
    Picoseconds load = 0, passes = 0, path = 0;
    Picoseconds head = INT64_MAX, tail = INT64_MAX;
    Picoseconds first_back = INT64_MAX, turn = INT64_MAX;  // of the first B: since 0, since F began
    Picoseconds home = INT64_MAX, back = INT64_MAX;  // since the end of the last F: all, own B
    Picoseconds rounds_step = 0, rounds_rank = 0;
    std::int64_t count = 0;
    std::vector<std::pair<Bytes, Picoseconds>> forwards, rests;
    long double area = 0, whole_area = 0;
    for (std::size_t q = rank * chunks; q < (rank + 1) * chunks; ++q) {
      const StageCosts& c = problem.stages[static_cast<std::size_t>(seats[q].stage)];
      const Way& way = ways[q];
      const std::int64_t n = seats[q].count;
      if (n == 0) continue;
      count = std::max(count, n);
      load += n * (c.work() - c.hidden);
      passes += n * (c.forward + c.data - c.hidden);
      head = std::min(head, way.before);
      tail = std::min(tail, way.after);
      first_back = std::min(first_back, way.before + c.forward + way.round);
      turn = std::min(turn, c.forward + way.round);
      home = std::min(home, way.round + c.data + way.after);
      back = std::min(back, way.round + c.data);
      path = std::max(path, way.before + c.forward + way.round + c.data + way.after);
      const Picoseconds hold = c.forward + way.round + c.data;
      forwards.emplace_back(c.saved, c.forward);
      // What a byte can hold of later work: B and W, or W alone.
      const bool weights = c.kept > 0 && static_cast<long double>(c.weight) * c.saved >
                                             static_cast<long double>(c.data + c.weight) * c.kept;
      rests.emplace_back(weights ? c.kept : c.saved, weights ? c.weight : c.data + c.weight);
      if (c.kept == 0 && c.weight > 0) rests.back() = {0, c.data + c.weight};  // W's hold nothing
      area += static_cast<long double>(n) * static_cast<long double>(c.saved) *
              static_cast<long double>(hold);
      // In memory from F to B, or with what W needs to the end of W.
      const auto rounds = [&](Bytes bytes, Picoseconds time, Picoseconds after) {
        if (!limited || bytes <= 0) return;
        const std::int64_t fit = std::max<std::int64_t>(1, limit / bytes);
        const Picoseconds least = (n - 1) / fit * time + time;
        rounds_step = std::max(rounds_step, way.before + least + after);
        rounds_rank = std::max(rounds_rank, least);
      };
      rounds(c.saved, hold, way.after);
      rounds(c.kept, hold + c.weight, 0);
      whole_area += static_cast<long double>(n) * static_cast<long double>(c.kept) *
                    static_cast<long double>(c.weight);
    }
    if (count == 0) continue;
    const Picoseconds early =
        limited ? most_within(limit, forwards, count) : std::max(first_back, turn);
    const Picoseconds late = limited ? most_within(limit, rests, count) : load;
    const auto over_limit = [&](long double bytes_held) {
      return limited && limit > 0
                 ? static_cast<Picoseconds>(bytes_held / static_cast<long double>(limit))
                 : Picoseconds{0};
    };
    const Picoseconds held = over_limit(area), all_held = over_limit(area + whole_area);
    out.step = std::max({out.step, path, head + load, head + passes + tail,
                         first_back + load - std::min({early, first_back - head, load}),
                         head + load - std::min(late, load) + home, rounds_step, head + held + tail,
                         head + all_held});
    out.rank_time = std::max({out.rank_time, load, turn + load - std::min({early, turn, load}),
                              load - std::min(late, load) + back, rounds_rank, all_held});
  }
  return out;
}

}  // namespace steploom
