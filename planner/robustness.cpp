#include "planner/robustness.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <thread>
#include <utility>

#include "planner/costed_cluster.h"
#include "planner/lower.h"
#include "planner/parallel.h"
#include "planner/samples.h"
#include "sim/engine.h"
#include "sim/step_clock.h"

namespace steploom {
namespace {

// Radical inverse of i in a base (J. H. Halton, Numerische Mathematik 2, 1960).
double halton(int i, int base) {
  double value = 0, place = 1;
  for (; i > 0; i /= base) {
    place /= base;
    value += place * (i % base);
  }
  return value;
}

}  // namespace

std::vector<Draw> network_draws() {
  std::vector<Draw> draws;
  for (int i = 1; i <= kDraws; ++i)
    draws.push_back(
        {1 - kSpread + 2 * kSpread * halton(i, 2), 1 - kSpread + 2 * kSpread * halton(i, 3)});
  return draws;
}

std::vector<Robustness> robustness(const Setting& setting, std::span<const Profile> profiles,
                                   const std::vector<Candidate>& rows, unsigned threads) {
  const std::vector<Draw> draws = network_draws();
  std::vector<std::vector<Picoseconds>> step(draws.size(), std::vector<Picoseconds>(rows.size()));
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  std::vector<char> workers(threads == 0 ? cores : threads);
  for_each_parallel(workers, draws.size(), [&](char&, std::size_t d) {
    Cluster cluster = setting.cluster;
    for_each_network(cluster, [&](LinkType& nic) {
      nic.bandwidth *= draws[d].bandwidth;
      nic.latency = static_cast<Picoseconds>(static_cast<double>(nic.latency) * draws[d].latency);
    });
    const CostedCluster costed(std::move(cluster), profiles, setting.costs.calibration());
    Setting drawn = costed.setting(setting.model, setting.work, setting.runtime);
    drawn.contention = setting.contention;
    CostCache cache(drawn.costs);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      Lowered lowered = lower(of_sample(drawn, rows[r].sample), rows[r].layout, cache);
      step[d][r] = ClockedProgram(lowered.program).makespan(drawn.replaying());
    }
  });
  std::vector<Robustness> out(rows.size());
  for (const std::vector<Picoseconds>& s : step) {
    const auto best = std::min_element(s.begin(), s.end());
    out[static_cast<std::size_t>(best - s.begin())].stays_best += 1.0 / kDraws;
    for (std::size_t r = 0; r < rows.size(); ++r)
      out[r].worst_regret = std::max(
          out[r].worst_regret, static_cast<double>(s[r] - *best) / static_cast<double>(*best));
  }
  return out;
}

}  // namespace steploom
