// The sweep: every collective at every size and CTA setting, alone.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "profiler/bench.h"
#include "profiler/kernel_trace.h"
#include "profiler/measure_check.h"
#include "profiler/stamped_loop.h"

namespace steploom {
namespace {

constexpr double kSampleUs = 1000;  // shots of one sample together
constexpr int kMostShots = 100;
constexpr double kLongUs = 10'000;  // from here on fewer samples

// The time of all members' shots: from the last start to the last end.
std::vector<double> shot_times(const std::vector<std::vector<KernelRun>>& by_rank, int shots) {
  std::vector<double> us;
  for (int shot = 0; shot < shots; ++shot) {
    std::int64_t start = 0, end = 0;
    for (const std::vector<KernelRun>& mine : by_rank) {
      if (mine.empty()) continue;  // not a member
      // A call may consist of several kernels, one after the other.
      const std::size_t parts = mine.size() / static_cast<std::size_t>(shots);
      if (parts * static_cast<std::size_t>(shots) != mine.size()) {
        fail("the trace holds " + std::to_string(mine.size()) + " kernels of a rank for " +
             std::to_string(shots) + " collectives");
      }
      start = std::max(start, mine[static_cast<std::size_t>(shot) * parts].start_ns);
      end = std::max(end, mine[(static_cast<std::size_t>(shot) + 1) * parts - 1].end_ns);
    }
    us.push_back(1e-3 * static_cast<double>(end - start));
  }
  return us;
}

JsonLine start_of(const SweepPoint& point) {
  JsonLine line;
  line.add("table", "collective")
      .add("collective", point.collective->name)
      .add("bytes", static_cast<long long>(point.bytes))
      .add("asked", point.asked);
  return line;
}

}  // namespace

std::vector<std::int64_t> sweep_sizes(int every) {
  std::vector<std::int64_t> sizes;
  for (int octave = 10; octave <= 30; ++octave) {
    sizes.push_back(std::int64_t{1} << octave);
    if (octave < 16 || octave >= 26) continue;
    const double between = std::exp2(octave + 0.5);
    sizes.push_back(static_cast<std::int64_t>(std::lround(between / 1024)) * 1024);
  }
  std::vector<std::int64_t> kept;
  for (std::size_t i = 0; i < sizes.size(); i += static_cast<std::size_t>(every)) {
    kept.push_back(sizes[i]);
  }
  return kept;
}

CollectiveCall Bench::call(std::int64_t bytes, int shot, int half) const {
  const std::int64_t room = half == kWhole ? kPoolBytes : kPoolBytes / 2;
  const std::int64_t step = bytes + 1024;  // the guard behind a place is in no other place
  const std::int64_t places = std::max<std::int64_t>(1, room / step);
  const std::int64_t offset = (half == 1 ? room : 0) + shot % places * step;
  return {rank(), ranks(), bytes, offset, send, receive};
}

std::int64_t Bench::wrong_after_shot(const Collective& collective, std::int64_t bytes,
                                     ncclComm_t comm) {
  const CollectiveCall one = call(bytes, 0);
  poison(one, stream);
  collective.launch(one, comm, stream);
  const std::int64_t mine = count_wrong(collective, one, kernels.wrong, stream);
  return static_cast<std::int64_t>(peers.most(static_cast<double>(mine)));
}

std::vector<std::vector<KernelRun>> gather_trace(Bench& bench) {
  static_assert(std::is_trivially_copyable_v<KernelRun>);
  std::string mine;
  for (const KernelRun& run : take_trace()) {
    if (run.collective) mine.append(reinterpret_cast<const char*>(&run), sizeof run);
  }
  std::vector<std::vector<KernelRun>> by_rank;
  for (const std::string& bytes : bench.peers.gather(std::move(mine))) {
    by_rank.emplace_back(bytes.size() / sizeof(KernelRun));
    std::memcpy(by_rank.back().data(), bytes.data(), bytes.size());
  }
  return by_rank;
}

ClockCheck check_clocks(Bench& bench) {
  constexpr int kShots = 20;
  for (int shot = 0; shot <= kShots; ++shot) {  // the first one warms up
    collective_named("all_reduce").launch(bench.call(1024, shot), bench.comms[0], bench.stream);
    check(cudaStreamSynchronize(bench.stream));
  }
  ClockCheck result{kShots, 0};
  const std::vector<std::vector<KernelRun>> by_rank = gather_trace(bench);
  if (!bench.first()) return result;
  std::vector<double> differ, together;  // last end less first; first end less last start
  for (std::size_t shot = 1; shot <= kShots; ++shot) {
    std::vector<std::int64_t> starts, ends;
    for (const std::vector<KernelRun>& mine : by_rank) {
      if (mine.size() != kShots + 1) fail("the trace lost collectives");
      starts.push_back(mine[shot].start_ns);
      ends.push_back(mine[shot].end_ns);
    }
    const auto [first_end, last_end] = std::minmax_element(ends.begin(), ends.end());
    const std::int64_t last_start = *std::max_element(starts.begin(), starts.end());
    differ.push_back(1e-3 * static_cast<double>(*last_end - *first_end));
    together.push_back(1e-3 * static_cast<double>(*first_end - last_start));
  }
  if (spread_of(together).median < 0) {
    fail("the clocks of the ranks disagree: all-reduces ended before all ranks had begun them");
  }
  result.ends_differ_us = spread_of(differ).median;
  return result;
}

Traced trace_collective(Bench& bench, const Collective& collective, std::int64_t bytes,
                        ncclComm_t comm, int shots) {
  for (int shot = 0; shot <= shots; ++shot) {  // the first one warms up
    collective.launch(bench.call(bytes, shot), comm, bench.stream);
  }
  check(cudaStreamSynchronize(bench.stream));
  Traced traced;
  traced.shots = shots;
  const std::vector<std::vector<KernelRun>> by_rank = gather_trace(bench);
  if (bench.first()) {
    for (const std::vector<KernelRun>& runs : by_rank) {
      for (const KernelRun& run : runs) traced.grid = std::max(traced.grid, run.grid);
    }
    std::vector<double> us = shot_times(by_rank, shots + 1);
    us.erase(us.begin());
    traced.kernel_us = spread_of(us).median;
    if (traced.grid == 0) fail(std::string("the trace shows no kernel of ") + collective.name);
  }
  traced.grid = static_cast<int>(bench.peers.most(traced.grid));
  traced.kernel_us = bench.peers.most(traced.kernel_us);
  return traced;
}

std::vector<SweepPoint> trace_sweep(Bench& bench) {
  std::vector<SweepPoint> points;
  const std::vector<std::int64_t> sizes = sweep_sizes(bench.options.every);
  for (const Collective& collective : collectives()) {
    std::vector<SweepPoint> before(kAsked.size());  // the next smaller size, by setting
    for (const std::int64_t bytes : sizes) {
      const std::size_t first = points.size();
      for (std::size_t comm = 0; comm < kAsked.size(); ++comm) {
        bench.peers.doing(std::string("tracing ") + collective.name + " of " +
                          std::to_string(bytes) + " bytes on " + std::to_string(kAsked[comm]) +
                          " CTAs");
        SweepPoint& last = before[comm];
        const double times =
            last.bytes == 0 ? 0 : static_cast<double>(bytes) / static_cast<double>(last.bytes);
        SweepPoint point{&collective, bytes, {kAsked[comm]}, comm, {}, 0};
        const double predicted_us =
            times * (last.too_long_us > 0 ? last.too_long_us : last.traced.kernel_us);
        if (predicted_us > kLongestShotUs) {
          point.too_long_us = predicted_us;
        } else {
          point.traced = trace_collective(bench, collective, bytes, bench.comms[comm],
                                          predicted_us > kLongUs ? 1 : 5);
          if (point.traced.kernel_us > kLongestShotUs) point.too_long_us = point.traced.kernel_us;
        }
        last = point;
        const auto same = std::find_if(points.begin() + static_cast<std::ptrdiff_t>(first),
                                       points.end(), [&](const SweepPoint& other) {
                                         return point.too_long_us == 0 && other.too_long_us == 0 &&
                                                other.traced.grid == point.traced.grid;
                                       });
        if (same == points.end()) {
          points.push_back(point);
        } else {
          same->asked.push_back(kAsked[comm]);
        }
      }
    }
  }
  return points;
}

Settings trace_settings(Bench& bench, std::span<const std::int64_t> sizes,
                        std::span<const ncclComm_t> comms) {
  Settings settings;
  for (const char* name : {"all_to_all", "all_reduce", "send_recv"}) {
    for (const std::int64_t bytes : sizes) {
      std::vector<Setting>& some = settings[{name, bytes}];
      for (ncclComm_t comm : comms) {
        bench.peers.doing(std::string("tracing ") + name);
        const Traced traced = trace_collective(bench, collective_named(name), bytes, comm, 2);
        if (traced.kernel_us > kLongestShotUs) continue;
        if (std::none_of(some.begin(), some.end(),
                         [&](const Setting& other) { return other.grid == traced.grid; })) {
          some.push_back({comm, traced.grid, traced.kernel_us});
        }
      }
    }
  }
  return settings;
}

void measure_sweep(Bench& bench, const std::vector<SweepPoint>& points) {
  for (const SweepPoint& point : points) {
    JsonLine line = start_of(point);
    if (point.too_long_us > 0) {
      bench.write(
          line.add("skipped", "a shot takes over 50 ms").add("about_us", point.too_long_us));
      continue;
    }
    if (bench.out_of_time()) {
      bench.write(line.add("skipped", "the budget was spent"));
      continue;
    }
    bench.peers.doing(std::string(point.collective->name) + " of " + std::to_string(point.bytes) +
                      " bytes on " + std::to_string(point.traced.grid) + " CTAs");
    ncclComm_t comm = bench.comms[point.comm];
    const std::int64_t wrong = bench.wrong_after_shot(*point.collective, point.bytes, comm);
    Loop loop;
    loop.stream = bench.stream;
    loop.batch = std::clamp(static_cast<int>(kSampleUs / point.traced.kernel_us), 1, kMostShots);
    loop.batches = point.traced.kernel_us > kLongUs ? 4 : 10;
    loop.launch = [&](int shot) {
      point.collective->launch(bench.call(point.bytes, shot), comm, bench.stream);
    };
    const Spread us = spread_of(run_alone(bench, loop));
    bench.write(line.add("grid", point.traced.grid)
                    .add("us", us)
                    .add("samples", us.samples)
                    .add("shots", loop.batch)
                    .add("kernel_us", point.traced.kernel_us)
                    .add("kernel_shots", point.traced.shots)
                    .add("wrong", static_cast<long long>(wrong)));
    if (wrong != 0) fail(std::string("wrong results of ") + point.collective->name);
  }
}

}  // namespace steploom
