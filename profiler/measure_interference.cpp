// Interference: g (a kernel on part of the SMs) and h (kernels and collectives side by side).

#include <cmath>

#include "profiler/bench.h"
#include "profiler/measure_check.h"
#include "profiler/stamped_loop.h"

namespace steploom {
namespace {

constexpr double kWindowMs = 25;  // of each sample, at least
constexpr int kShares = 16;       // g at held/wanted = i/16

// A loop of a collective; it uses one half of the pools, or both.
struct CollectiveLoop {
  const NcclCollective& collective;
  std::int64_t bytes;
  CtaSetting setting;
  cudaStream_t stream;
  int half;

  Loop loop(Bench& bench, double us, double window_ms) const {
    return loop_for(stream, us, window_ms, [this, &bench](int shot) {
      collective.launch(bench.call(bytes, shot, half), setting.comm, stream);
    });
  }
  // Wrong elements of the last shot, the largest over the ranks.
  std::int64_t wrong(Bench& bench, const Loop& loop) const {
    const CollectiveCall last = bench.call(bytes, loop.shots() - 1, half);
    const std::int64_t mine = count_wrong(collective, last, bench.kernels.wrong, stream);
    return static_cast<std::int64_t>(bench.peers.most(static_cast<double>(mine)));
  }
};

void poison_pool(Bench& bench) {
  check(cudaMemsetAsync(bench.receive, 0xff, static_cast<std::size_t>(kPoolBytes + kGuardBytes),
                        bench.stream));
  check(cudaStreamSynchronize(bench.stream));
}

}  // namespace

Loop loop_of(Bench& bench, const SideKernel& kernel, double us, double ms) {
  return loop_for(bench.side, us, ms, [&](int) { kernel.launch(bench.kernels, bench.side); });
}

double loop_ms(double collective_us) {
  return kLeadMs + kWindows * std::max(kWindowMs, 2e-3 * collective_us);
}

void measure_share(Bench& bench) {
  const int sms = bench.kernels.sms;
  for (const SideKernel& kernel : bench.side_kernels) {
    bench.peers.doing(std::string(kernel.name) + " on part of the SMs");
    const double error = bench.peers.most(error_of(bench.kernels, kernel, bench.side));
    if (error > 0.01) fail(std::string("wrong results of ") + kernel.name);
    run_alone(bench, loop_of(bench, kernel, kernel.least_us, 200));
    for (int i = kShares; i >= 1; --i) {
      const int held = static_cast<int>(std::lround(static_cast<double>(sms) * i / kShares));
      const double since = bench.peers.seconds();
      take_sms(bench.kernels, sms - held, bench.blocker);
      const int free = count_free_sms(bench.kernels, bench.side);
      const double estimate = kernel.least_us * sms / held;
      const Spread us = spread_of(run_alone(bench, loop_of(bench, kernel, estimate, 50)));
      release_sms(bench.kernels, bench.blocker, bench.side);
      // A kernel that cannot start on so few SMs (clusters) waits until the blocker has left.
      if (bench.peers.most(bench.peers.seconds() - since) > kBlockedSeconds) break;
      bench.write(JsonLine()
                      .add("table", "share")
                      .add("kernel", kernel.name)
                      .add("wanted", sms)
                      .add("held", free)
                      .add("us", us)
                      .add("samples", us.samples)
                      .add("error", error));
    }
  }
}

void measure_beside(Bench& bench, const Settings& settings) {
  for (const auto& [what, some] : settings) {
    const auto& [name, bytes] = what;
    for (const CtaSetting& setting : some) {
      const CollectiveLoop one{collective_named(name), bytes, setting, bench.stream, kWhole};
      const double ms = loop_ms(setting.kernel_us);
      const Loop collective = one.loop(bench, setting.kernel_us, ms);
      const Spread collective_alone = spread_of(run_steady(bench, collective, kLeadMs));
      for (const SideKernel& kernel : bench.side_kernels) {
        if (bench.out_of_time()) return;
        bench.peers.doing(std::string(kernel.name) + " beside " + name + " on " +
                          std::to_string(setting.grid) + " CTAs");
        const Loop product = loop_of(bench, kernel, kernel.least_us, ms);
        const Spread kernel_alone = spread_of(run_steady(bench, product, kLeadMs));
        poison_pool(bench);
        const SideBySide both = run_side_by_side(bench, collective, product, kLeadMs);
        const std::int64_t wrong = one.wrong(bench, collective);
        bench.write(JsonLine()
                        .add("table", "beside")
                        .add("kernel", kernel.name)
                        .add("collective", name)
                        .add("bytes", static_cast<long long>(bytes))
                        .add("grid", setting.grid)
                        .add("kernel_us", spread_of(both.second_us))
                        .add("kernel_alone_us", kernel_alone)
                        .add("collective_us", spread_of(both.first_us))
                        .add("collective_alone_us", collective_alone)
                        .add("window_ms", both.window_ms)
                        .add("samples", kWindows)
                        .add("wrong", static_cast<long long>(wrong)));
        if (wrong != 0) fail("wrong results of " + name + " beside " + kernel.name);
      }
    }
  }
}

void measure_pairs(Bench& bench, const Settings& settings, const Settings& seconds) {
  for (const auto& [first_what, first_settings] : settings) {
    for (const auto& [second_what, second_settings] : seconds) {
      for (const CtaSetting& a : first_settings) {
        for (const CtaSetting& b : second_settings) {
          if (bench.out_of_time()) return;
          bench.peers.doing(first_what.first + " beside " + second_what.first);
          const CollectiveLoop first{collective_named(first_what.first), first_what.second, a,
                                     bench.stream, 0};
          const CollectiveLoop second{collective_named(second_what.first), second_what.second, b,
                                      bench.side, 1};
          const double ms = loop_ms(std::max(a.kernel_us, b.kernel_us)) - kLeadMs;
          const Loop first_loop = first.loop(bench, a.kernel_us, ms);
          const Loop second_loop = second.loop(bench, b.kernel_us, ms);
          const Spread a_alone = spread_of(run_steady(bench, first_loop, 0));
          const Spread b_alone = spread_of(run_steady(bench, second_loop, 0));
          poison_pool(bench);
          const SideBySide both = run_side_by_side(bench, first_loop, second_loop, 0);
          const std::int64_t wrong =
              std::max(first.wrong(bench, first_loop), second.wrong(bench, second_loop));
          bench.write(JsonLine()
                          .add("table", "pair")
                          .add("collective", first_what.first)
                          .add("bytes", static_cast<long long>(first_what.second))
                          .add("grid", a.grid)
                          .add("other", second_what.first)
                          .add("other_bytes", static_cast<long long>(second_what.second))
                          .add("other_grid", b.grid)
                          .add("us", spread_of(both.first_us))
                          .add("alone_us", a_alone)
                          .add("other_us", spread_of(both.second_us))
                          .add("other_alone_us", b_alone)
                          .add("window_ms", both.window_ms)
                          .add("samples", kWindows)
                          .add("wrong", static_cast<long long>(wrong)));
          if (wrong != 0) fail("wrong results of collectives side by side");
        }
      }
    }
  }
}

}  // namespace steploom
